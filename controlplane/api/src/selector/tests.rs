use proptest::prelude::*;
use serde_json::json;

use super::*;

fn matches(selector: &str, labels: &[(&str, &'static str)]) -> bool {
    let selector = LabelSelector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
    selector.matches(|key| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
}

#[test]
fn selects_by_label() {
    let labels = [("app", "web"), ("tier", "1"), ("in", "x")];
    for (selector, want) in [
        ("", true),
        ("app", true),
        ("!app", false),
        ("nope", false),
        ("!nope", true),
        ("app=web", true),
        ("app==web", true),
        ("app!=web", false),
        ("nope!=web", true),
        ("app in (web,api)", true),
        ("app notin (web)", false),
        ("nope notin (web)", true),
        ("tier>0", true),
        ("tier<1", false),
        ("app>0", false),
        ("nope>0", false),
        ("app=web,tier=1", true),
        (" app = web , tier in ( 1 , 2 ) ", true),
        ("app=", false),
        ("nope in (,a)", false),
        ("in in (x)", true),
        ("in=x,notin!=in", true),
    ] {
        assert_eq!(matches(selector, &labels), want, "{selector}");
    }
}

#[test]
fn words_complaints_as_kubernetes_does() {
    for (selector, want) in [
        ("app=web=x", "found '=', expected: ',' or 'end of string'"),
        ("app,", "found '', expected: identifier after ','"),
        (",app", "found ',', expected: !, identifier, or 'end of string'"),
        (
            "app x",
            "unable to parse requirement: found 'x', expected: in, notin, =, ==, !=, gt, lt",
        ),
        ("app in web", "unable to parse requirement: found 'web' expected: '('"),
        (
            "app in (web",
            "unable to parse requirement: found '', expected: ',' or ')'",
        ),
        (
            "app in ()",
            "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
        ),
        (
            "app>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        (
            "a/b/c",
            "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a qualified name must consist of alphanumeric \
             characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or \
             'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an \
             optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        ),
        (
            "a=b@",
            "unable to parse requirement: values[0][a]: Invalid value: \"b@\": a valid label must be an empty string or \
             consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
             (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
    ] {
        assert_eq!(LabelSelector::parse(selector).unwrap_err(), want, "{selector}");
    }
}

#[test]
fn reads_a_label_selector_object() {
    let selector = LabelSelector::from_json(&json!({
        "matchLabels": {"b": "1"},
        "matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}],
    }));
    assert_eq!(selector.unwrap().to_string(), "a in (x,y),b=1,!c");
    assert!(LabelSelector::from_json(&json!({})).unwrap().matches(|_| None));
    assert!(!LabelSelector::from_json(&json!(null)).unwrap().matches(|_| None));
}

#[test]
fn collects_all_that_is_wrong_in_a_label_selector_object() {
    let errors = LabelSelector::from_json(&json!({"matchExpressions": [
        {"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["x"]}, {"key": "a", "operator": "Gt"},
    ]}));
    let messages: Vec<String> = errors.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            "matchExpressions[2].operator: Invalid value: \"Gt\": not a valid selector operator",
        ]
    );
}

#[test]
fn nothing_and_everything_are_what_they_say() {
    assert!(LabelSelector::everything().is_empty() && LabelSelector::everything().matches(|_| None));
    assert!(!LabelSelector::nothing().is_empty() && !LabelSelector::nothing().matches(|_| Some("x")));
}

#[test]
fn selects_by_field() {
    let field = |name: &str| match name {
        "metadata.name" => Some("a"),
        "spec.nodeName" => Some("n=1,x"),
        _ => None,
    };
    for (selector, want) in [
        ("", true),
        ("metadata.name=a", true),
        ("metadata.name==a", true),
        ("metadata.name!=a", false),
        ("metadata.name!=b", true),
        (r"spec.nodeName=n\=1\,x", true),
        ("nope=", true),
        ("nope!=", false),
        (",,", true),
        ("metadata.name=a,nope=x", false),
    ] {
        assert_eq!(
            FieldSelector::parse(selector).unwrap().matches(field),
            want,
            "{selector}"
        );
    }
    assert_eq!(FieldSelector::parse("b=1,a!=2").unwrap().to_string(), "a!=2,b=1");
    assert_eq!(
        FieldSelector::parse("metadata.name=a").unwrap().exact("metadata.name"),
        Some("a")
    );
}

#[test]
fn refuses_field_selectors_as_kubernetes_does() {
    for (selector, want) in [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("a=b,c!", "invalid selector: 'a=b,c!'; can't understand 'c!'"),
        (r"a=\b", r"invalid field selector: invalid escape sequence: \b"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
    ] {
        assert_eq!(FieldSelector::parse(selector).unwrap_err(), want);
    }
}

fn requirement_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,4}",
        "![a-z]{1,4}",
        "[a-z]{1,4}(=|==|!=)[a-z]{0,3}",
        "[a-z]{1,4} (in|notin) \\([a-z]{1,3}(,[a-z]{1,3}){0,3},?\\)",
        "[a-z]{1,4}[<>][0-9]{1,5}",
    ]
}

proptest! {
    #[test]
    fn printing_a_label_selector_is_undone_by_parsing(texts in prop::collection::vec(requirement_text(), 0..5)) {
        let selector = LabelSelector::parse(&texts.join(",")).unwrap();
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn printing_a_field_selector_is_undone_by_parsing(value in ".*", equals: bool) {
        let escaped = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let text = format!("spec.x{}{escaped}", if equals { "=" } else { "!=" });
        let selector = FieldSelector::parse(&text).unwrap();
        prop_assert_eq!(&selector.requirements()[0].value, &value);
        prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn outside_text_never_panics(text in "[a-z=!<>(), \\\\]{0,30}|.*") {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    }
}
