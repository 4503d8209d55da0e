use proptest::prelude::*;

use super::scalar::plain;
use super::*;

fn shape(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("#{number}"),
        Value::Text(text) => format!("{text:?}"),
        Value::List(list) => format!("[{}]", list.iter().map(shape).collect::<Vec<_>>().join(",")),
        Value::Map(members) => {
            let members = members.iter().map(|member| format!("{}:{}", member.name, shape(&member.value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
    }
}

fn reads(text: &str) -> String {
    match read(text) {
        Ok(node) => shape(&node),
        Err(error) => error.to_string(),
    }
}

#[test]
fn yaml_and_json_give_the_same_tree() {
    let wanted = r#"{a:["x","y z"],b:{c:null,d:true}}"#;
    for text in [
        "a:\n- x\n- y z\nb:\n  c:\n  d: true\n",
        "\u{feff}a: [x, 'y z']\nb: {c: ~, d: true}",
        "---\r\na:\r\n  - x # one\r\n  - \"y z\"\r\nb:\r\n  c: null\r\n  d: yes\r\n...\r\n",
        "{\"a\":[\"x\",\"y z\"],\"b\":{\"c\":null,\"d\":true}}",
        "{\n\t\"a\": [\"x\",\t\"y z\"],\n\t\"b\": {\"c\": null, \"d\": true}\n}\n",
    ] {
        assert_eq!(reads(text), wanted, "{text}");
    }
    assert_eq!(reads(r#"{"a\/b":"\u00e9\n"}"#), "{a/b:\"é\\n\"}");
}

#[test]
fn plain_values_are_what_kubernetes_takes_them_for_and_quotes_make_text() {
    for (text, wanted) in [
        ("- a\n- None\n- '1'\n- \"true\"\n- !!str 1\n- |-\n  1\n", r#"["a","None","1","true","1","1"]"#),
        ("[~, null, Null, NULL]", "[null,null,null,null]"),
        ("[true, yes, On, no, OFF, n]", "[true,true,true,false,false,false]"),
    ] {
        assert_eq!(reads(text), wanted);
    }
    let numbers = "1 -1 +1 1_000 0x1f 0X1F 0o17 0b1 1.5 .5 1e3 -1.5e-3 .inf -.INF .nan 017";
    for number in numbers.split(' ') {
        assert_eq!(plain(number.to_owned()), Value::Number(number.to_owned()));
    }
    let texts = "inf nan infinity -inf e3 0x 0xg 1.2.3 10.0.0.0/8 1a - + . system:masters 12:30 -a None";
    for text in texts.split(' ') {
        assert_eq!(plain(text.to_owned()), Value::Text(text.to_owned()));
    }
}

#[test]
fn lines_are_those_of_the_file() {
    let Value::Map(members) = read("# one\na: x\n\nb:\n  - y\n  - z\n").unwrap().value else { panic!() };
    assert_eq!((members[0].line, members[1].line), (2, 4));
    let Value::List(list) = &members[1].value.value else { panic!() };
    assert_eq!((list[0].line, list[1].line), (5, 6));
}

#[test]
fn aliases_stand_for_what_was_anchored() {
    assert_eq!(reads("a: &who [x, z]\nb: *who\n"), r#"{a:["x","z"],b:["x","z"]}"#);
    assert_eq!(reads("- &a x\n- &a z\n- *a\n"), r#"["x","z","z"]"#);
    assert!(reads("a: *none\n").starts_with("line 1: not YAML: "));
}

/// Held to what sigs.k8s.io/yaml (goyaml.v2, `decode.go` and `resolve.go`) makes of the same text.
#[test]
fn tags_mean_what_they_mean_to_kube_apiserver() {
    for (text, wanted) in [
        ("[!!str 1, !!str true, !!str , !<tag:yaml.org,2002:str> ~]", r#"["1","true","","~"]"#),
        ("[!!bool yes, !!bool 'true', !!int 1, !!int \"7\", !!float 1.5, !!null ~]", "[true,true,#1,#7,#1.5,null]"),
        ("[!mine 1, !!set x, !e!x 'y']", r#"["1","x","y"]"#),
        ("a: !!map {b: !!seq [c]}\nd: !mine {e: !mine [f]}\n", r#"{a:{b:["c"]},d:{e:["f"]}}"#),
        ("!!str 1: x\n", r#"{1:"x"}"#),
    ] {
        assert_eq!(reads(&format!("%TAG !e! tag:example.com,2026:\n---\n{text}")), wanted, "{text}");
    }
}

/// Held to the same; the vectors are those of YAML's own page on `<<` and of what goyaml.v2 does at its edges.
#[test]
fn merge_keys_mean_what_they_mean_to_kube_apiserver() {
    let anchors = "- &centre {x: 1, z: 2}\n- &left {x: 0, z: 2}\n- &big {r: 10}\n- &small {r: 1}\n";
    let known = "{x:#1,z:#2},{x:#0,z:#2},{r:#10},{r:#1}";
    for (text, wanted) in [
        ("{<<: *centre, r: 10}", "{r:#10,x:#1,z:#2}"),
        ("{<<: [*centre, *big], l: z}", r#"{l:"z",x:#1,z:#2,r:#10}"#),
        ("{<<: [*big, *left, *small], x: 1}", "{x:#1,r:#10,z:#2}"),
        ("{<<: {a: b}, c: d}", r#"{c:"d",a:"b"}"#),
        ("{<<: [], c: d}", r#"{c:"d"}"#),
        ("{!!merge <<: *big, c: d}", r#"{c:"d",r:#10}"#),
        // A member that the map has itself counts, wherever it stands behind the key.
        ("{<<: *centre, x: ~}", "{x:null,z:#2}"),
        // A map that was merged is merged with all that it has.
        ("{<<: {<<: *centre, x: 9}}", "{x:#9,z:#2}"),
        // No key, but text.
        ("[<<, {'<<': *big}, {!!str <<: x}, {a: <<}]", r#"["<<",{<<:{r:#10}},{<<:"x"},{a:"<<"}]"#),
    ] {
        assert_eq!(reads(&format!("{anchors}- {text}\n")), format!("[{known},{wanted}]"), "{text}");
    }
    for (text, wanted) in [
        ("{<<: x}", "line 5: << wants a map, or a list of maps"),
        ("{<<: }", "line 5: << wants a map, or a list of maps"),
        ("{<<: [*big, x]}", "line 5: << wants a map, or a list of maps"),
        ("{<<: [[*big]]}", "line 5: << wants a map, or a list of maps"),
        ("{<<: *big, <<: *centre}", "line 5: \"<<\" stands there twice"),
        (
            "{r: 3, <<: *big}",
            "line 5: << brings in \"r\", which stands before it and for kube-apiserver would not count any more; put \
             << first",
        ),
    ] {
        assert_eq!(reads(&format!("{anchors}- {text}\n")), wanted, "{text}");
    }
    // What is brought in again and again is counted like what is written again and again.
    let wide: String = (0..1000).map(|n| format!("a{n}: 1, ")).collect();
    let bomb = format!("- &a {{{wide}}}\n{}", "- {<<: *a}\n".repeat(200));
    assert!(reads(&bomb).ends_with("more than 100000 values, aliases replaced"));
}

#[test]
fn what_is_no_such_document_is_said_with_its_line() {
    for (text, wanted) in [
        ("", "line 1: the file is empty"),
        ("# nothing\n", "line 1: the file is empty"),
        ("a: 1\nb: 2\na: 3\n", "line 3: \"a\" stands there twice"),
        ("{\"a\":1,\n\"\\u0061\":2}", "line 2: \"a\" stands there twice"),
        ("a: 1\n---\nb: 2\n", "line 2: a second document begins, one is expected"),
        ("? [a]\n: b\n", "line 1: a list or map stands where a field's name is expected"),
        ("a: ! b\n", "line 1: \"!\" is a tag that can be read in two ways; write !!str"),
        ("a: !!int b\n", "line 1: \"!!int\" is the tag of something else"),
        ("a: !!null b\n", "line 1: \"!!null\" is the tag of something else"),
        ("a: !!binary YQ==\n", "line 1: \"!!binary\" is a tag that no policy needs; write the text itself"),
        ("a: &a [*a]\n", "line 1: an alias of what it stands in"),
    ] {
        assert_eq!(reads(text), wanted, "{text}");
    }
    for text in ["a: [", "a: b: c", "a:\n\t- b", "\"", "{a", "a: \0", "- a\nb: c", "{---", "%YAML 9"] {
        assert!(reads(text).contains("not YAML: "), "{text}: {}", reads(text));
    }
}

#[test]
fn depth_and_number_are_bounded_with_aliases_and_without() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(reads(&nested(64)), nested(64));
    assert_eq!(reads(&nested(65)), "line 1: nested deeper than 64");
    assert_eq!(reads(&"- ".repeat(500_000)), "line 1: nested deeper than 64");
    // The parser, which looks ahead here, has a limit of its own.
    assert_eq!(reads(&"{a: ".repeat(100_000)), "line 1: not YAML: recursion limit exceeded");
    // Each alias is one deeper than the last.
    let tower: String =
        (1..100).map(|n| format!("- &a{n} [*a{}]\n", n - 1)).fold("- &a0 []\n".to_owned(), |all, line| all + &line);
    assert_eq!(reads(&tower), "line 64: nested deeper than 64");

    let list = |length| format!("[{}]", "a,".repeat(length));
    assert!(read(&list(MAX_VALUES - 1)).is_ok());
    assert_eq!(reads(&list(MAX_VALUES)), "line 1: more than 100000 values, aliases replaced");
    // A billion laughs.
    let bomb: String = (1..10)
        .map(|n| format!("- &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(",")))
        .fold("- &a0 [lol]\n".to_owned(), |all, line| all + &line);
    assert_eq!(reads(&bomb), "line 6: more than 100000 values, aliases replaced");
    // One long text, or one long name, that is said again and again.
    let long = "x".repeat(64_000);
    for anchored in [format!("&a {long}"), format!("&a {{{long}: 1}}")] {
        let repeated = |times| format!("- {anchored}\n{}", "- *a\n".repeat(times));
        assert!(read(&repeated(90)).is_ok());
        assert_eq!(reads(&repeated(110)), "line 100: more than 100000 values, aliases replaced");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_say_more_than_a_line(
        text in prop_oneof![
            any::<String>(),
            "[-a:#&*!|>'\"%@{}\\[\\], \n\t?~.0]{0,60}",
        ]
    ) {
        if let Err(error) = read(&text) {
            prop_assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
    }
}
