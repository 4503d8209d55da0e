//! The documents say what the program does: each table of the README is held against the code it speaks of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kube_audit_rest::cli::{self, Config};
use kube_audit_rest::observe::metrics::Metrics;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the table whose header line begins with `header`, as trimmed cells.
fn table(document: &str, header: &str) -> Vec<Vec<String>> {
    let mut lines = document.lines().skip_while(|line| !line.starts_with(header));
    assert!(lines.next().is_some(), "no table begins with {header}");
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// What stands between the first two backquotes.
fn quoted(cell: &str) -> &str {
    cell.split('`').nth(1).unwrap_or(cell)
}

#[test]
fn the_flag_table_and_the_command_line_have_the_same_flags_and_defaults() {
    let documented: BTreeMap<String, String> = table(&read("README.md"), "| flag | default |")
        .into_iter()
        .map(|row| (quoted(&row[0]).to_owned(), row[1].replace('`', "")))
        .collect();
    let real = Config::default().settings().into_iter().map(|(name, default)| (format!("--{name}"), default)).collect();
    assert_eq!(documented, real);
}

#[test]
fn help_mentions_every_documented_flag() {
    let usage = cli::usage();
    let words: BTreeSet<&str> = usage.split(|char: char| !(char.is_ascii_lowercase() || char == '-')).collect();
    let readme = read("README.md");
    let documented = table(&readme, "| flag | default |");
    for row in &documented {
        assert!(words.contains(quoted(&row[0])), "{}", row[0]);
    }
    for flag in ["--version", "--help", "-h", "-v"] {
        assert!(words.contains(flag), "{flag}");
        assert!(readme.contains(&format!("`{flag}`")), "{flag}");
    }
}

/// Name, type and label of each family that the page or the table speaks of.
type Families = BTreeMap<String, (String, Option<String>)>;

#[test]
fn the_metric_table_and_the_metrics_page_have_the_same_families() {
    let documented: Families = table(&read("README.md"), "| metric | type |")
        .into_iter()
        .map(|row| {
            let name = quoted(&row[0]);
            let (name, label) = match name.split_once('{') {
                Some((name, label)) => (name, Some(label.trim_end_matches('}').to_owned())),
                None => (name, None),
            };
            (name.to_owned(), (row[1].clone(), label))
        })
        .collect();

    let page = Metrics::new().render("1.2.3");
    let mut real = Families::new();
    let mut family = String::new();
    for line in page.lines() {
        if let Some(words) = line.strip_prefix("# TYPE ") {
            let (name, kind) = words.split_once(' ').unwrap();
            family = name.to_owned();
            real.insert(family.clone(), (kind.to_owned(), None));
        } else if let Some(sample) = line.strip_prefix(&family)
            && let Some((label, _)) = sample.strip_prefix('{').and_then(|labels| labels.split_once('='))
        {
            real.get_mut(&family).unwrap().1 = Some(label.to_owned());
        }
    }
    assert_eq!(documented, real);
}

#[test]
fn every_documented_message_stands_in_the_code() {
    let mut code = String::new();
    for path in files(&root().join("src"), "rs") {
        code.push_str(&fs::read_to_string(path).unwrap());
    }
    for row in table(&read("README.md"), "| `msg` | level |") {
        for message in row[0].split('`').skip(1).step_by(2) {
            assert!(code.contains(message), "{message}");
        }
    }
}

#[test]
fn the_dependency_table_agrees_with_cargo_toml_and_cargo_lock() {
    let documented: BTreeMap<String, String> = table(&read("README.md"), "| dependency | version |")
        .into_iter()
        .map(|row| {
            assert_eq!(row.len(), 4, "{row:?}");
            assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
            (quoted(&row[0]).to_owned(), row[1].clone())
        })
        .collect();

    let manifest = read("Cargo.toml");
    let direct: BTreeSet<&str> = section(&manifest, "[dependencies]")
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim())
        .collect();
    let named: BTreeSet<&str> = documented.keys().map(String::as_str).collect();
    assert_eq!(named, direct);
    // The whole of what the project allows itself; a new one is a decision, not a slip.
    let allowed = ["httparse", "lexopt", "rustls", "rustls-pemfile", "serde_json", "signal-hook", "time"];
    assert_eq!(direct, BTreeSet::from(allowed));
    for other in ["[build-dependencies]", "[target."] {
        assert!(!manifest.contains(other), "{other}");
    }

    let lock = read("Cargo.lock");
    let locked = locked(&lock);
    for (name, version) in &documented {
        assert!(locked.contains(&(name.as_str(), version.as_str())), "{name} {version} is not what Cargo.lock has");
    }
}

#[test]
fn the_two_dependency_tables_name_all_that_is_linked() {
    let readme = read("README.md");
    let documented: BTreeSet<(String, String)> = table(&readme, "| dependency | version |")
        .into_iter()
        .chain(table(&readme, "| package | version |"))
        .map(|row| (quoted(&row[0]).to_owned(), row[1].clone()))
        .collect();

    // The image's target; others differ in what the standard library lacks there.
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package", env!("CARGO_PKG_NAME"), "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .args(["--target", "x86_64-unknown-linux-musl"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let linked = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .filter(|(name, _)| *name != env!("CARGO_PKG_NAME"))
        .map(|(name, version)| {
            let version = version.split(' ').next().unwrap();
            (name.to_owned(), version.to_owned())
        })
        .collect();
    assert_eq!(documented, linked);
}

#[test]
fn the_readme_has_the_two_commands() {
    let readme = read("README.md");
    for command in ["cargo run --release --example quickstart", "cargo test"] {
        assert!(readme.lines().any(|line| line == command), "{command}");
    }
    let version = format!("(https://rustup.rs) ({} or later)", env!("CARGO_PKG_RUST_VERSION"));
    assert!(readme.contains(&version), "{version}");
}

#[test]
fn relative_links_and_paths_in_the_documents_exist() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => folder.join(path),
            };
            assert!(target.exists(), "{}: {link}", document.display());
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&target).unwrap());
                assert!(anchors.contains(anchor), "{}: {link}: only {anchors:?}", document.display());
            }
        }
        // `k8s/...` and the like in the top documents are paths from the top.
        if folder == root() {
            for path in text.split('`').skip(1).step_by(2) {
                let ours = ["src/", "tests/", "k8s/", ".ci/"].iter().any(|top| path.starts_with(top));
                if ours && !path.contains([' ', '*', '\n']) {
                    assert!(root().join(path).exists(), "{}: {path}", document.display());
                }
            }
        }
    }
}

/// README.md and SECURITY.md, and every such document under k8s.
fn documents() -> Vec<PathBuf> {
    let mut documents = vec![root().join("README.md"), root().join("SECURITY.md")];
    documents.extend(files(&root().join("k8s"), "md"));
    documents
}

/// The files under `folder` whose names end in `extension`.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
    }
    files
}

/// The targets of `[text](target)`, outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    for prose in text.split("```").step_by(2) {
        for rest in prose.split("](").skip(1) {
            links.extend(rest.split(')').next());
        }
    }
    links
}

/// The anchors that GitHub gives a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    text.split("```")
        .step_by(2)
        .flat_map(str::lines)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            heading
                .chars()
                .filter(|char| char.is_alphanumeric() || [' ', '-', '_'].contains(char))
                .map(|char| if char == ' ' { '-' } else { char })
                .collect()
        })
        .collect()
}

/// The lines of a section of a TOML file, up to the next.
fn section<'t>(toml: &'t str, header: &str) -> impl Iterator<Item = &'t str> {
    let mut lines = toml.lines().skip_while(move |line| *line != header);
    assert!(lines.next().is_some(), "no {header}");
    lines.take_while(|line| !line.starts_with('['))
}

/// Name and version of every package of Cargo.lock.
fn locked(lock: &str) -> BTreeSet<(&str, &str)> {
    lock.split("[[package]]")
        .skip(1)
        .map(|package| {
            let field = |name: &str| {
                let value = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
                value.unwrap().trim_matches('"')
            };
            (field("name"), field("version"))
        })
        .collect()
}
