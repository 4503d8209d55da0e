//! What /proc says of this process and of the mounts that it sees.

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The user and the groups that the kernel checks when this process accesses a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProcessIds {
    pub(super) user: u32,
    pub(super) groups: Vec<u32>,
}

impl ProcessIds {
    pub(super) fn read() -> io::Result<Self> {
        let path = "/proc/self/status";
        let status = std::fs::read_to_string(path).map_err(|error| io::Error::other(format!("{path}: {error}")))?;
        Self::parse(&status).ok_or_else(|| io::Error::other(format!("{path} names no user")))
    }

    /// proc_pid_status(5): `Uid:` and `Gid:` are followed by the real, effective, saved and file-system id.
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().map(|id| id.parse().ok()).collect()
        };
        let mut groups = field("Groups:")?;
        groups.extend(field("Gid:")?.get(3));
        Some(Self { user: *field("Uid:")?.get(3)?, groups })
    }
}

/// File systems of other machines. A lock on a file there may keep readers out.
const NETWORK_FILE_SYSTEMS: [&[u8]; 6] = [b"nfs", b"nfs4", b"cifs", b"smb3", b"9p", b"ceph"];

/// The mounts that this process sees: the text of /proc/self/mountinfo (proc_pid_mountinfo(5)). If that cannot be read it
/// is empty, and nothing is taken for a mount.
pub(super) struct Mounts(Vec<u8>);

impl Mounts {
    pub(super) fn read() -> Self {
        Self(std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// The fields of each line.
    fn fields(&self) -> impl Iterator<Item = Vec<&[u8]>> {
        self.0.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b' ').collect())
    }

    /// Whether a file's file system is one of another machine.
    pub(super) fn is_of_network(&self, file: &Metadata) -> bool {
        let device = format!("{}:{}", major(file.dev()), minor(file.dev()));
        self.fields().any(|fields| {
            let end = fields.iter().position(|field| *field == b"-");
            let kind = end.and_then(|end| fields.get(end + 1));
            fields.get(2) == Some(&device.as_bytes()) && kind.is_some_and(|kind| NETWORK_FILE_SYSTEMS.contains(kind))
        })
    }

    /// Whether something is mounted on this path, which must be absolute and free of links.
    pub(super) fn is_mount_point(&self, path: &Path) -> bool {
        let mut escaped = Vec::new();
        for byte in path.as_os_str().as_bytes() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' => escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
                byte => escaped.push(*byte),
            }
        }
        self.fields().any(|fields| fields.get(4) == Some(&escaped.as_slice()))
    }
}

/// Linux's encoding of a device's number (makedev(3)).
fn major(device: u64) -> u64 {
    (device >> 8) & 0xfff | (device >> 32) & !0xfff
}

fn minor(device: u64) -> u64 {
    device & 0xff | (device >> 12) & !0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_whose_it_is() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";
        assert_eq!(ProcessIds::parse(status), Some(ProcessIds { user: 4, groups: vec![9, 10, 8] }));
        assert_eq!(ProcessIds::parse("Name:\tx\n"), None);
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(ProcessIds::read().unwrap().user, file.as_file().metadata().unwrap().uid());
    }

    #[test]
    fn mounts_are_found_by_their_place_and_their_device() {
        let here = std::fs::metadata("/proc").unwrap();
        let device = format!("{}:{}", major(here.dev()), minor(here.dev()));
        let text = format!("22 1 {device} / /a\\040b rw shared:1 - nfs4 server:/x rw\n");
        let mounts = Mounts(text.into_bytes());
        assert!(mounts.is_of_network(&here));
        assert!(mounts.is_mount_point(Path::new("/a b")));
        assert!(!mounts.is_mount_point(Path::new("/a")));
        let real = Mounts::read();
        assert!(real.is_mount_point(Path::new("/proc")));
        assert!(!real.is_of_network(&here));
    }
}
