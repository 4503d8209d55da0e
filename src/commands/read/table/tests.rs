use super::*;
use crate::record::entry;

/// A review's line with these members in its request.
fn line(request: &str, rest: &str) -> String {
    format!(
        r#"{{"kind":"AdmissionReview","request":{{"operation":"DELETE","resource":{{"resource":"pods"}},"userInfo":{{"username":"system:serviceaccount:kube-system:replicaset-controller"}}{request}}},"requestReceivedTimestamp":"2026-11-20T21:34:38.999999999Z"{rest}}}"#
    )
}

fn rows(table: &mut Table, lines: &[String]) -> Vec<String> {
    let mut text = Vec::new();
    table.write_header(&mut text).unwrap();
    for line in lines {
        table.write_row(&Row::of(&entry::read(line.as_bytes()).unwrap()), &mut text).unwrap();
    }
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_table_fits_its_width_and_keeps_the_end_of_users_and_names() {
    let name = format!(r#","namespace":"{}","name":"{}-abcde""#, "n".repeat(63), "p".repeat(200));
    let lines = [line(&name, ""), line(&name, r#","source":"a-source-with-a-name-of-some-length""#)];
    for width in [80, 100, 120, 200] {
        let rows = rows(&mut Table::new(Width::Cut(width), Colour::Off), &lines);
        for row in &rows {
            assert!(row.chars().count() <= width, "{width}: {row}");
        }
        assert!(rows[1].starts_with("2026-11-20T21:34:38Z  …") && rows[1].ends_with("pp-abcde"), "{}", rows[1]);
        assert!(rows[1].contains("controller  delete   pods  "), "{}", rows[1]);
        assert!(rows[2].contains("  a-sou"), "{}", rows[2]);
    }
}

#[test]
fn without_a_width_nothing_is_cut() {
    let name = "p".repeat(253);
    let lines = [line(&format!(r#","subResource":"exec","namespace":"shop","name":"{name}","dryRun":true"#), "")];
    let rows = rows(&mut Table::new(Width::Any, Colour::Off), &lines);
    assert!(rows[1].contains("  system:serviceaccount:kube-system:replicaset-controller  delete   pods/exec  "));
    assert!(rows[1].ends_with(&format!("  shop/{name} (dry run)")), "{}", rows[1]);
}

#[test]
fn a_name_cannot_play_with_the_terminal_or_fill_memory() {
    let hostile = r#","namespace":"\u001b[2J\r\n","name":"\u202ex\u0000""#;
    let huge = format!(r#","name":"{}""#, "x".repeat(1_000_000));
    let rows = rows(&mut Table::new(Width::Any, Colour::Off), &[line(hostile, ""), line(&huge, "")]);
    assert_eq!(rows.len(), 3);
    assert!(rows[1].ends_with(r"  \u{1b}[2J\r\n/\u{202e}x\0"), "{}", rows[1]);
    assert!(rows[2].len() < 2000 && rows[2].ends_with('…'));
}

#[test]
fn only_verbs_are_coloured_and_only_where_it_is_asked_for() {
    let rows = rows(&mut Table::new(Width::Cut(80), Colour::On), &[line("", "")]);
    assert_eq!(rows[1].matches('\u{1b}').count(), 2);
    assert!(rows[1].contains("\u{1b}[31mdelete \u{1b}[0m"));
}

#[test]
fn an_event_shows_both_users_and_where_no_resource_is_its_path() {
    let line = r#"{"kind":"Event","verb":"get","user":{"username":"root"},"impersonatedUser":{"username":"bob"},"requestURI":"/metrics?x=1","stageTimestamp":"2026-11-20T22:34:38+01:00"}"#;
    let rows = rows(&mut Table::new(Width::Any, Colour::Off), &[line.to_owned()]);
    let cells: Vec<&str> = rows[1].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells, ["2026-11-20T21:34:38Z", "root (as bob)", "get", "-", "/metrics?x=1"]);
}

#[test]
fn an_event_that_was_refused_or_is_not_complete_says_so() {
    let line = |rest: &str| {
        format!(
            r#"{{"kind":"Event","verb":"delete","user":{{"username":"eve"}},"objectRef":{{"resource":"secrets","namespace":"shop","name":"db"}},{rest}}}"#
        )
    };
    let lines = [
        line(r#""stage":"RequestReceived""#),
        line(r#""stage":"ResponseComplete","responseStatus":{"metadata":{},"code":200}"#),
        line(
            r#""stage":"ResponseComplete","responseStatus":{"metadata":{},"status":"Failure","reason":"Forbidden","code":403}"#,
        ),
        line(r#""stage":"Panic","responseStatus":{"code":500}"#),
    ];
    let rows = rows(&mut Table::new(Width::Any, Colour::Off), &lines);
    let ends = ["shop/db (RequestReceived)", "shop/db", "shop/db (403)", "shop/db (Panic) (500)"];
    for (row, end) in rows[1..].iter().zip(ends) {
        assert!(row.ends_with(&format!("  {end}")), "{row}");
    }
}
