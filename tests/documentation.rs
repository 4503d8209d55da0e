//! The documents say what the program does: each table of README.md and SECURITY.md is held to the code that it speaks of,
//! and the maps of the code and of the tests to the files that are there.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Setup, corpus, get, post, request};
use kube_audit_rest::cli::{self, Config};

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

/// Type and label of each family that the page or the table speaks of.
type Families = BTreeMap<String, (String, Option<String>)>;

#[test]
fn the_metric_table_and_the_metrics_page_have_the_same_families_and_label_values() {
    let readme = read("README.md");
    let rows = table(&readme, "| metric | type |");
    let mut documented = Families::new();
    for row in &rows {
        let (name, label) = match quoted(&row[0]).split_once('{') {
            Some((name, label)) => (name, Some(label.trim_end_matches('}').to_owned())),
            None => (quoted(&row[0]), None),
        };
        documented.insert(name.to_owned(), (row[1].clone(), label));
    }

    let setup = Setup::new();
    let sources = setup.file("sources", &format!("edge-1 {}\n", "0123456789abcdef".repeat(2)));
    let server = setup.flag("sources-filename", &sources).start();
    let page = server.connect_metrics().exchange(&get("/metrics"));
    let mut real = Families::new();
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut family = String::new();
    for line in page.text().lines() {
        if let Some(words) = line.strip_prefix("# TYPE ") {
            let (name, kind) = words.split_once(' ').unwrap();
            family = name.to_owned();
            real.insert(family.clone(), (kind.to_owned(), None));
        } else if let Some(sample) = line.strip_prefix(&family)
            && let Some((label, rest)) = sample.strip_prefix('{').and_then(|labels| labels.split_once("=\""))
        {
            real.get_mut(&family).unwrap().1 = Some(label.to_owned());
            values.entry(family.clone()).or_default().insert(rest.split('"').next().unwrap().to_owned());
        }
    }
    let process: BTreeSet<String> = real.keys().filter(|name| name.starts_with("process_")).cloned().collect();
    real.retain(|name, _| !name.starts_with("process_"));
    assert_eq!(documented, real);

    assert!(!process.is_empty());
    for name in &process {
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
    // What a row names in backquotes beside a label are values of that label.
    for row in rows.iter().filter(|row| row[0].contains('{')) {
        let name = quoted(&row[0]).split('{').next().unwrap();
        for value in row[2].split('`').skip(1).step_by(2).filter(|word| !word.starts_with("--")) {
            assert!(values[name].contains(value), "{name} has no {value}");
        }
    }
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

/// Those that are said as they stand; the others are put together from parts.
#[test]
fn every_message_of_the_code_is_documented() {
    let readme = read("README.md");
    let rows = table(&readme, "| `msg` | level |");
    let documented: BTreeSet<&str> = rows.iter().flat_map(|row| row[0].split('`').skip(1).step_by(2)).collect();
    let mut said = 0;
    for room in ["audit_log", "commands", "files", "net", "observe", "serve", "tls"] {
        for path in files(&root().join("src").join(room), "rs") {
            let code = fs::read_to_string(&path).unwrap();
            if path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests")) {
                continue;
            }
            let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for call in [".info(", ".warn(", ".error("] {
                for text in code.split(call).skip(1).filter_map(|after| after.trim_start().strip_prefix('"')) {
                    let message = text.split('"').next().unwrap();
                    assert!(documented.contains(message), "{}: {message}", path.display());
                    said += 1;
                }
            }
        }
    }
    assert!(said > 20, "{said} messages were found");
}

#[test]
fn every_path_of_the_endpoint_table_is_served_on_its_ports_and_on_no_other() {
    let readme = read("README.md");
    let rows = table(&readme, "| port | request |");
    let mut served: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut paths = BTreeSet::new();
    for row in &rows {
        for words in row[1].split('`').skip(1).step_by(2) {
            let (method, path) = words.split_once(' ').unwrap();
            paths.insert(path);
            for port in row[0].split(", ") {
                served.insert((port, path), method);
            }
        }
    }
    assert!(served.len() >= 7, "{served:?}");

    let server = Setup::new().flag("http-port", "0").start();
    for port in ["HTTPS", "HTTP", "metrics"] {
        for path in &paths {
            let mut client = match port {
                "HTTPS" => server.connect(),
                "HTTP" => server.connect_http(),
                _ => server.connect_metrics(),
            };
            let body = if *path == "/log-request" { corpus::review("u") } else { corpus::event_list(&["u"]) };
            let (sent, wanted) = match served.get(&(port, *path)) {
                Some(&"POST") => (post(path, &body), 200),
                Some(method) => (request(method, path, &[("Host", "localhost")], b""), 200),
                None => (post(path, &body), 404),
            };
            assert_eq!(client.exchange(&sent).status, wanted, "{path} on the {port} port");
        }
    }
}

#[test]
fn the_status_table_has_every_status_that_the_code_can_answer() {
    let readme = read("README.md");
    let rows = table(&readme, "| status | why |");
    let documented: BTreeSet<&str> = rows.iter().flat_map(|row| row[0].split(", ")).chain(["200"]).collect();
    let mut code = String::new();
    for path in files(&root().join("src/http"), "rs") {
        code.push_str(&fs::read_to_string(path).unwrap());
    }
    // A status line as the code spells it: three digits, a space, a reason phrase, all of one string.
    let real: BTreeSet<&str> = code
        .split('"')
        .filter_map(|text| text.split_once(' '))
        .filter(|(code, reason)| code.len() == 3 && reason.starts_with(char::is_uppercase))
        .map(|(code, _)| code)
        .filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    assert_eq!(documented, real);
}

#[test]
fn the_dependency_table_agrees_with_cargo_toml_and_cargo_lock() {
    let documented: BTreeMap<String, String> = table(&read("SECURITY.md"), "| dependency | version |")
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
    let allowed = [
        "httparse",
        "lexopt",
        "ring",
        "rustls",
        "rustls-pemfile",
        "saphyr-parser",
        "serde_json",
        "signal-hook",
        "time",
    ];
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
    let security = read("SECURITY.md");
    let documented: BTreeSet<(String, String)> = table(&security, "| dependency | version |")
        .into_iter()
        .chain(table(&security, "| package | version |"))
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
        // `k8s/...` and the like are paths from the top.
        for path in text.split('`').skip(1).step_by(2) {
            let ours = ["src/", "tests/", "k8s/", ".ci/", ".github/"].iter().any(|top| path.starts_with(top));
            if ours && !path.contains([' ', '*', '\n']) {
                assert!(root().join(path).exists(), "{}: {path}", document.display());
            }
            // The map of the code names files as its rooms have them.
            if folder == root().join("src") && path.contains('/') && path.ends_with(".rs") && !ours {
                assert!(folder.join(path).exists(), "{}: {path}", document.display());
            }
        }
    }
}

#[test]
fn the_map_of_the_code_has_a_row_for_each_room_and_no_other() {
    let rows = table(&read("src/README.md"), "| room | owns |");
    let documented: BTreeSet<String> =
        rows.iter().map(|row| quoted(&row[0]).trim_end_matches('/').to_owned()).collect();
    let folders = fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap());
    let real: BTreeSet<String> =
        folders.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(documented, real);
}

#[test]
fn a_room_uses_only_rooms_that_stand_below_it_on_the_map() {
    let rows = table(&read("src/README.md"), "| room | owns |");
    let rooms: Vec<&str> = rows.iter().map(|row| quoted(&row[0]).trim_end_matches('/')).collect();
    let mut wrong = Vec::new();
    for (place, room) in rooms.iter().enumerate() {
        for path in files(&root().join("src").join(room), "rs") {
            // Unit tests may use what they like.
            if path.file_stem().is_some_and(|stem| stem == "tests" || stem == "model") {
                continue;
            }
            let code = fs::read_to_string(&path).unwrap();
            let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for rest in code.split("crate::").skip(1) {
                let used = rest.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).next().unwrap();
                if rooms.iter().position(|room| *room == used).is_some_and(|below| below < place) {
                    wrong.push(format!("{} uses {used}", path.display()));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn no_unit_test_starts_a_process() {
    // From its fork to its exec a child holds the file locks of all tests that run beside it.
    for path in files(&root().join("src"), "rs") {
        assert!(!fs::read_to_string(&path).unwrap().contains("process::Command"), "{}", path.display());
    }
}

#[test]
fn the_map_of_the_tests_has_a_row_for_each_test_file_and_no_other() {
    let rows = table(&read("tests/README.md"), "| file | holds |");
    let documented: BTreeSet<String> = rows.iter().map(|row| quoted(&row[0]).to_owned()).collect();
    let folder = root().join("tests");
    let real: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // What Cargo takes for a test: a file, or a folder with a main.rs.
        .filter_map(|name| match name.strip_suffix(".rs") {
            Some(_) => Some(name),
            None if folder.join(&name).join("main.rs").exists() => Some(format!("{name}/")),
            None => None,
        })
        .collect();
    assert_eq!(documented, real);
}

/// Every Markdown document of the project, wherever it stands.
fn documents() -> Vec<PathBuf> {
    let mut documents: Vec<PathBuf> =
        ["README.md", "SECURITY.md", "CHANGELOG.md"].iter().map(|name| root().join(name)).collect();
    for folder in ["src", "tests", "k8s", ".github"] {
        documents.extend(files(&root().join(folder), "md"));
    }
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
