use std::fs;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::files::watched::testing::Messages;
use crate::observe::labels::Reload;

const ONE: &str = "0123456789abcdef0123456789abcdef";
const TWO: &str = "fedcba9876543210fedcba9876543210";

fn error(text: &str) -> String {
    match Sources::parse(text.as_bytes()) {
        Ok(_) => "none".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_token_gives_the_name_beside_it_and_nothing_else_does() {
    let long = "ab".repeat(64);
    let text = format!("prod {ONE}\neu-1.staging {TWO}\nold {long}\n");
    let sources = Sources::parse(text.as_bytes()).unwrap();
    assert_eq!(sources.name_of(ONE.as_bytes()), Some("prod"));
    assert_eq!(sources.name_of(TWO.as_bytes()), Some("eu-1.staging"));
    assert_eq!(sources.name_of(long.as_bytes()), Some("old"));
    let with_nul = format!("{ONE}\0");
    let longer = format!("{ONE}0");
    for wrong in [
        "",
        "\0",
        &ONE[1..],
        &ONE[..31],
        &ONE.to_uppercase(),
        &longer,
        &with_nul,
        &"0".repeat(129),
        &"\0".repeat(128),
        "prod",
    ] {
        assert_eq!(sources.name_of(wrong.as_bytes()), None, "{wrong:?}");
    }
}

#[test]
fn a_name_may_have_several_tokens() {
    let text = format!("prod {ONE}\nprod {TWO}");
    let sources = Sources::parse(text.as_bytes()).unwrap();
    assert_eq!(sources.tokens(), 2);
    assert_eq!(sources.name_of(ONE.as_bytes()), Some("prod"));
    assert_eq!(sources.name_of(TWO.as_bytes()), Some("prod"));
}

#[test]
fn comments_blank_lines_tabs_and_crlf_are_taken() {
    let text = format!("# who\r\n\r\n  \t\n\t prod\t \t{ONE}  \r\n  # {TWO}\r\nb {TWO}");
    let sources = Sources::parse(text.as_bytes()).unwrap();
    assert_eq!(sources.tokens(), 2);
    assert_eq!(sources.name_of(ONE.as_bytes()), Some("prod"));
    assert!(Sources::parse(&[b"# \xff\n a ", ONE.as_bytes()].concat()).is_ok());
}

#[test]
fn a_name_is_of_the_form_of_dns_1123() {
    let longest = "a".repeat(63);
    for name in ["a", "0", "a-b", "a.b", "a--b", "x1.y2-z", &longest] {
        assert_eq!(error(&format!("{name} {ONE}")), "none", "{name}");
    }
    let too_long = "a".repeat(64);
    for name in ["A", "a_b", "-a", "a-", ".a", "a.", "a..b", "a.-b", "ä", "a/b", "\"", &too_long] {
        assert_eq!(
            error(&format!("\n{name} {ONE}")),
            "line 2: the name is not of lowercase letters, digits, - and . (at most 63, a letter or digit at both ends of each part)",
            "{name}"
        );
    }
}

#[test]
fn a_token_is_of_32_to_128_lowercase_hex_digits() {
    let (longest, too_long) = ("a".repeat(128), "a".repeat(129));
    assert_eq!(error(&format!("a {ONE}\nb {longest}")), "none");
    for token in
        ["x", "g123456789abcdef0123456789abcdef", &ONE[1..], &ONE.to_uppercase(), &format!("{ONE}-"), &too_long]
    {
        assert_eq!(
            error(&format!("# a\na {token}")),
            "line 2: the token is not of 32 to 128 lowercase hex digits",
            "{token}"
        );
    }
}

#[test]
fn what_else_can_be_wrong_is_said_with_its_line() {
    for text in ["prod", ONE, &format!("a {ONE} # new"), &format!("a:{ONE}")] {
        let expected = "line 1: not of the form NAME TOKEN";
        assert_eq!(error(text), expected, "{text}");
    }
    for second in ["a", "b"] {
        assert_eq!(error(&format!("a {ONE}\n\n{second} {ONE}")), "line 3: the same token as in line 1");
    }
    for text in ["", "\n", "# a\n"] {
        assert_eq!(error(text), "holds no source: nobody could write");
    }
    let many = |count| -> String { (0..count).map(|n| format!("a {n:032x}\n")).collect() };
    assert_eq!(error(&many(1000)), "none");
    assert_eq!(error(&many(1001)), "line 1001: more than 1000 tokens");
}

#[test]
fn the_last_of_a_thousand_tokens_is_found_like_the_first() {
    let text: String = (0..1000).map(|n| format!("n{n} {n:032x}\n")).collect();
    let sources = Sources::parse(text.as_bytes()).unwrap();
    for n in [0, 1, 255, 256, 999] {
        let token = format!("{n:032x}");
        assert_eq!(sources.name_of(token.as_bytes()), Some(format!("n{n}").as_str()));
    }
    assert_eq!(sources.name_of(format!("{:032x}", 1000).as_bytes()), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), token in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(sources) = Sources::parse(&bytes) {
            let _ = sources.name_of(&token);
        }
    }

    #[test]
    fn every_token_of_a_valid_file_is_found_and_no_other(
        entries in proptest::collection::hash_map("[0-9a-f]{32,128}", "[a-z]([a-z0-9-]{0,20}[a-z0-9])?", 1..20),
        other in "[0-9a-f]{32}",
    ) {
        let text: String = entries.iter().map(|(token, name)| format!("{name} {token}\n")).collect();
        let sources = Sources::parse(text.as_bytes()).unwrap();
        for (token, name) in &entries {
            prop_assert_eq!(sources.name_of(token.as_bytes()), Some(name.as_str()));
        }
        if !entries.contains_key(&other) {
            prop_assert_eq!(sources.name_of(other.as_bytes()), None);
        }
    }

    #[test]
    fn no_error_shows_what_stands_in_the_file(word in "[A-Z]{6,40}", before in "[^\n]{0,20}", after in "[^\n]{0,20}") {
        if let Err(error) = Sources::parse(format!("{before}{word}{after}").as_bytes()) {
            prop_assert!(!error.to_string().contains(&word));
        }
    }
}

#[test]
fn a_changed_file_is_used_and_a_broken_one_is_said_once_and_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sources");
    let shown = path.display();
    let messages = Messages::default();
    let metrics = Arc::new(Metrics::new());
    let load = || SourcesFile::load(path.clone(), metrics.clone(), messages.diagnostics());

    let missing = load().err().unwrap().to_string();
    assert_eq!(missing, format!("--sources-filename {shown}: No such file or directory (os error 2)"));
    fs::write(&path, "# nobody\n").unwrap();
    assert_eq!(
        load().err().unwrap().to_string(),
        format!("--sources-filename {shown}: holds no source: nobody could write")
    );
    fs::write(&path, format!("a {ONE}")).unwrap();
    let file = load().unwrap();
    let loaded = format!("info sources loaded path={shown} tokens=1");
    assert_eq!(messages.take(), [loaded]);

    let before = file.current();
    fs::write(&path, format!("a {ONE}\nb {TWO}")).unwrap();
    file.reload();
    let reloaded = format!("info sources reloaded path={shown} tokens=2");
    assert_eq!(messages.take(), [reloaded]);
    assert_eq!(file.current().name_of(TWO.as_bytes()), Some("b"));
    assert_eq!(before.name_of(TWO.as_bytes()), None);

    fs::write(&path, format!("a {ONE}\nb {}", &TWO[1..])).unwrap();
    for _ in 0..3 {
        file.reload();
    }
    let failed = format!(
        "error sources: reload failed, the old one stays in use error=--sources-filename {shown}: line 2: the token is not of 32 to 128 lowercase hex digits"
    );
    assert_eq!(messages.take(), [failed]);
    assert_eq!(file.current().name_of(TWO.as_bytes()), Some("b"));
    let reloads = &metrics.certificate_reloads;
    assert_eq!((reloads.value(Reload::Success), reloads.value(Reload::Failure)), (1, 1));
}
