use serde_json::json;

use super::*;

/// A shape of nothing in particular: keys are escaped, scalars are what they look like.
struct Plain;

impl Shape for Plain {
    fn scalar(&self) -> values::Scalar {
        values::Scalar::Plain
    }

    fn is_map(&self) -> bool {
        false
    }

    fn key(&self, _: &str) -> Option<&Self> {
        Some(self)
    }

    fn item(&self) -> Option<&Self> {
        Some(self)
    }
}

fn typed() -> Vec<(&'static str, Type)> {
    let item = object([("name".to_owned(), Type::String), ("port".to_owned(), Type::Int)]);
    let fields = [
        ("replicas".to_owned(), Type::Int),
        ("name".to_owned(), Type::String),
        ("ratio".to_owned(), Type::Double),
        ("items".to_owned(), Type::List(Arc::new(item))),
        ("labels".to_owned(), Type::Map(Arc::new(Type::String))),
        ("any".to_owned(), Type::Dyn),
    ];
    vec![("self", object(fields))]
}

fn compile(source: &str) -> Result<Program, CompileError> {
    Program::compile(source, &typed(), Some((&Type::Bool, "must be a bool")))
}

fn eval_within(source: &str, json: &serde_json::Value, units: u64) -> Result<Value, EvalError> {
    let program = Program::again(source).expect(source);
    let need = program.need("self").cloned().unwrap_or_default();
    let value = from_json(json, Some(&Plain), &need);
    program.eval(vec![("self", value)], &mut Budget::new(units))
}

fn eval(source: &str, json: &serde_json::Value) -> Result<Value, EvalError> {
    eval_within(source, json, OBJECT_BUDGET)
}

#[test]
fn what_can_never_be_right_does_not_compile() {
    for (source, why) in [
        ("self.z == 42", "undefined field 'z'"),
        ("self.items.all(i, i.z == 1)", "undefined field 'z'"),
        ("other == 1", "undeclared reference to 'other' (in container '')"),
        (
            "self.name.frobnicate()",
            "undeclared reference to 'frobnicate' (in container '')",
        ),
        (
            "self.replicas == 'a'",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        (
            "self.replicas + 'a' == 'b'",
            "found no matching overload for '_+_' applied to '(int, string)'",
        ),
        ("self.replicas.all(i, true)", "cannot be range of a comprehension"),
        ("self.name.x == 1", "type 'string' does not support field selection"),
        (
            "self.replicas && true",
            "found no matching overload for '_&&_' applied to '(int, bool)'",
        ),
        ("self = 42", "Syntax error"),
        ("self.replicas", "must be a bool"),
        ("Message{a: 1} == null", "messages cannot be made"),
    ] {
        let error = compile(source).expect_err(source).to_string();
        assert!(error.contains(why), "{source}: {error}");
    }
}

#[test]
fn what_may_be_right_compiles() {
    for source in [
        "self.replicas <= 5 && self.name.startsWith('a')",
        "self.ratio > 1",
        "has(self.name) ? self.name == 'a' : true",
        "self.items.exists(i, i.name == 'a' && i.port > 0)",
        "self.items.map(i, i.name).all(n, n.size() < 10)",
        "self.labels.all(k, k.matches('^a')) && self.labels['a'] == 'b'",
        "'a' in self.labels",
        "self.any.whatever == 3 && self.any > 2",
        "quantity('1Gi').isGreaterThan(quantity('1Mi'))",
        "sets.contains([1, 2], [1])",
        "self.items.filter(i, i.port == 1).size() == 1",
        "duration('1h') < duration('2h')",
        "[1, 2, 3].exists_one(x, x == self.replicas)",
    ] {
        compile(source).expect(source);
    }
}

#[test]
fn expressions_yield_what_they_yield_in_kubernetes() {
    let value = json!({"spec": {"replicas": 3, "names": ["a", "b"], "namespace": "n", "with-dash": 1, "two_words": 2},
        "status": {"text": "h\u{e9}"}});
    for source in [
        "self.spec.replicas == 3",
        "self.spec.names.all(n, n.size() == 1)",
        "self.spec.names.exists(n, n == 'b')",
        "!has(self.spec.missing) && has(self.spec.names)",
        "self.spec.__namespace__ == 'n' && self.spec.with__dash__dash == 1 && self.spec.two_words == 2",
        "self.status.text.size() == 2",
        "self.spec.names + ['c'] == ['a', 'b', 'c']",
        "self.spec.names.join('-') == 'a-b'",
        "'abab'.replace('b', 'c') == 'acac'",
        "self.spec.names.map(n, n + n) == ['aa', 'bb']",
        "isQuantity('1Gi') && ip('10.0.0.1').family() == 4",
        "dyn(self.spec.replicas) == 3",
    ] {
        assert_eq!(eval(source, &value), Ok(Value::Bool(true)), "{source}");
    }
}

#[test]
fn errors_are_worded_as_in_cel_go() {
    let value = json!({"a": {"b": 1}, "list": [1]});
    for (source, why) in [
        ("self.a.c == 1", "no such key: c"),
        ("1 / (self.a.b - 1) == 1", "division by zero"),
        ("self.a < 1", "no such overload"),
        ("missing == 1", "no such attribute(s): missing"),
    ] {
        assert_eq!(eval(source, &value), Err(EvalError::Failed(why.to_owned())), "{source}");
    }
}

#[test]
fn only_what_is_looked_at_becomes_a_value() {
    let program = Program::again("self.a.b == 1 && has(self.c) && self.list.all(x, x > self.d)").unwrap();
    let json = json!({"a": {"b": 1, "huge": [1, 2]}, "c": {"huge": 1}, "list": [2], "d": 1, "other": 1});
    let value = from_json(&json, Some(&Plain), program.need("self").unwrap());
    let kept = |name: &'static str| match &value {
        Value::Map(map) => map.get(&kube_cel::cel::objects::Key::from(name)).map(functions::weight),
        _ => None,
    };
    assert_eq!(
        ["a", "c", "list", "d", "other"].map(kept),
        [Some(3), Some(1), Some(2), Some(1), None]
    );
    assert!(program.uses("self") && !program.uses("x") && !program.uses("oldSelf"));
    assert_eq!(
        program.eval(vec![("self", value)], &mut Budget::new(CALL_LIMIT)),
        Ok(Value::Bool(true))
    );
}

#[test]
fn what_would_take_too_long_is_cut_off() {
    let list: Vec<i64> = (0..2000).collect();
    let value = json!({ "list": list, "text": "x".repeat(100_000) });
    for source in [
        "self.list.all(a, self.list.all(b, a + b >= 0))",
        "self.list.map(a, self.text).size() > 0",
        "lists.range(100000).all(a, lists.range(100000).all(b, a >= 0))",
        "sets.contains(self.list, self.list)",
        "self.list.all(a, !self.text.matches('x*y')) || true",
    ] {
        assert_eq!(eval(source, &value), Err(EvalError::CallLimit), "{source}");
    }
    for source in [
        "self.text.replace('', self.text) == ''",
        "lists.range(100000000).size() > 0",
    ] {
        assert_eq!(
            eval(source, &value),
            Err(EvalError::Failed("the result is too large".to_owned())),
            "{source}"
        );
    }
    assert_eq!(
        eval_within("self.list.all(a, a >= 0)", &value, 100),
        Err(EvalError::Exhausted)
    );
}

#[test]
fn what_is_too_deep_is_refused_before_it_is_parsed() {
    let cases = [
        "(".repeat(5000),
        format!("{}1", "!".repeat(5000)),
        format!("1{}", " + 1".repeat(3000)),
        format!("self{} == 1", ".a".repeat(3000)),
        "x".repeat(20_000),
    ];
    for source in cases {
        assert!(
            matches!(Program::again(&source), Err(CompileError::TooLarge(_))),
            "{}",
            &source[..20]
        );
    }
    let wide = vec!["self.a == 1"; 300].join(" || ");
    Program::again(&wide).expect("many alternatives are not deep");
}

#[test]
fn field_names_are_escaped_as_kubernetes_does() {
    for (name, escaped) in [
        ("plain", Some("plain")),
        ("in", Some("__in__")),
        ("a.b-c/d", Some("a__dot__b__dash__c__slash__d")),
        ("a_b", Some("a_b")),
        ("a__b", Some("a__underscores__b")),
        ("1a", None),
        ("a b", None),
    ] {
        assert_eq!(escape(name).as_deref(), escaped);
    }
}
