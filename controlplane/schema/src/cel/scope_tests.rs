use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::values::Unshaped;
use super::*;

struct Given(Json);

impl Inputs for Given {
    fn value(&self, name: &str, need: &Need) -> Option<Value> {
        Some(from_json::<Unshaped>(self.0.get(name)?, None, need))
    }
}

const INPUTS: &[(&str, Type)] = &[
    ("object", Type::Dyn),
    ("request", Type::Dyn),
    (AUTHORIZER, Type::Opaque("kubernetes.authorization.Authorizer")),
    (REQUEST_RESOURCE, Type::Opaque("kubernetes.authorization.ResourceCheck")),
];

/// Compiles the variables one after the other, each seeing those before it.
fn declare(variables: &[(&str, &str)]) -> (BTreeMap<String, Variable>, Type) {
    let (mut programs, mut types) = (BTreeMap::new(), BTreeMap::new());
    for (name, source) in variables {
        let environment = Environment {
            inputs: INPUTS,
            variables: Some((&programs, object(types.clone()))),
            messages: false,
        };
        let compiled = Program::of_policy(source, &environment, &[]).map_err(|error| error.to_string());
        let type_ = compiled.as_ref().map_or(Type::Dyn, |(_, type_)| type_.clone());
        types.insert((*name).to_owned(), type_);
        programs.insert((*name).to_owned(), compiled.map(|(program, _)| program));
    }
    (programs, object(types))
}

fn compile(source: &str, variables: &[(&str, &str)], wanted: &[Type]) -> Result<(Arc<Scope>, Program), String> {
    let (programs, type_) = declare(variables);
    let environment = Environment {
        inputs: INPUTS,
        variables: Some((&programs, type_)),
        messages: true,
    };
    let (program, _) = Program::of_policy(source, &environment, wanted).map_err(|error| error.to_string())?;
    let given = json!({"object": {"n": 3, "list": [1, 2], "metadata": {"namespace": "a"}}, "request": {"name": "r"}});
    let about = Check {
        resource: "pods".to_owned(),
        ..Check::default()
    };
    Ok((Scope::new(Arc::new(Given(given)), Arc::new(programs), about), program))
}

fn eval(source: &str, variables: &[(&str, &str)]) -> Result<Json, String> {
    let (scope, program) = compile(source, variables, &[])?;
    let mut budget = Budget::new(OBJECT_BUDGET);
    let mut result = scope.eval(&program, &mut budget);
    for _ in 0..4 {
        let questions = scope.questions();
        if questions.is_empty() {
            break;
        }
        for question in questions {
            let verdict = Verdict {
                allowed: question.verb == "get" && (question.resource == "pods" || question.path == "/healthz"),
                reason: format!("{}/{}", question.namespace, question.name),
            };
            scope.answer(question, verdict);
        }
        result = scope.eval(&program, &mut budget);
    }
    to_json(&result.map_err(|error| error.to_string())?)
}

/// An expression, the variables it may name, and what it comes to.
type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], Result<Json, &'c str>);

#[test]
fn variables_are_evaluated_when_they_are_asked_for() {
    let broken = ("broken", "object.nothing");
    let cases: &[Case] = &[
        ("variables.n + 1", &[("n", "object.n")], Ok(json!(4))),
        (
            "variables.b",
            &[("a", "object.n * 2"), ("b", "variables.a + variables.a")],
            Ok(json!(12)),
        ),
        ("true || variables.broken == 1", &[broken], Ok(json!(true))),
        (
            "object.list.map(x, x + variables.n)",
            &[("n", "object.n")],
            Ok(json!([4, 5])),
        ),
        (
            "variables.broken == 1",
            &[broken],
            Err("composited variable \"broken\" fails to evaluate: no such key: nothing"),
        ),
        (
            "variables.other",
            &[("n", "1")],
            Err("compilation failed: ERROR: <input>: undefined field 'other'"),
        ),
        ("object.metadata.namespace + request.name", &[], Ok(json!("ar"))),
    ];
    for (source, variables, expected) in cases {
        let expected = expected.clone().map_err(str::to_owned);
        assert_eq!(eval(source, variables), expected, "{source}");
    }
}

#[test]
fn messages_become_what_they_say() {
    let wrong = "unexpected type name \"Object.metadata\", expected \"Object.spec\", which matches field name path from root \
                 Object type";
    let cases = [
        ("Object{}", Ok(json!({}))),
        (
            "Object{spec: Object.spec{replicas: object.n, parts: [Object.spec.parts{name: 'a'}]}}",
            Ok(json!({"spec": {"replicas": 3, "parts": [{"name": "a"}]}})),
        ),
        (
            "Object{metadata: Object.metadata{labels: {'a': string(object.n)}}}",
            Ok(json!({"metadata": {"labels": {"a": "3"}}})),
        ),
        (
            "[JSONPatch{op: 'add', path: '/x/' + jsonpatch.escapeKey('a/b'), value: Object.x{y: 1}}]",
            Ok(json!([{"op": "add", "path": "/x/a~1b", "value": {"y": 1}}])),
        ),
        ("Object{?spec: optional.none()}", Ok(json!({}))),
        (
            "Object{spec: {'@type': 'type.googleapis.com/a.B', 'b': 1}}",
            Ok(json!({"spec": {"@type": "type.googleapis.com/a.B", "b": 1}})),
        ),
        ("{true: 1}", Err("map key Bool(true) is not a string")),
        ("Object{spec: Object.metadata{}}", Err(wrong)),
        (
            "Thing{}",
            Err("compilation failed: ERROR: <input>: undeclared reference to 'Thing' (in container '')"),
        ),
        (
            "JSONPatch{verb: 'add'}",
            Err("compilation failed: ERROR: <input>: undefined field 'verb'"),
        ),
    ];
    for (source, expected) in cases {
        assert_eq!(eval(source, &[]), expected.map_err(str::to_owned), "{source}");
    }
}

#[test]
fn the_authorizer_is_asked_between_evaluations() {
    let cases = [
        (
            "authorizer.group('').resource('pods').check('get').allowed()",
            Ok(json!(true)),
        ),
        (
            "authorizer.group('').resource('pods').check('list').allowed()",
            Ok(json!(false)),
        ),
        ("authorizer.requestResource.check('get').allowed()", Ok(json!(true))),
        ("authorizer.path('/healthz').check('get').allowed()", Ok(json!(true))),
        (
            "authorizer.group('').resource('pods').namespace('a').name('b').check('get').reason()",
            Ok(json!("a/b")),
        ),
        ("authorizer.path(' ')", Err("path must not be empty")),
        ("authorizer.group('').resource('')", Err("resource must not be empty")),
        (
            "authorizer.serviceAccount('A', 'b')",
            Err("Invalid service account namespace"),
        ),
        (
            "[1, 2, 3].all(x, authorizer.group(string(x)).resource('pods').check('get').allowed())",
            Err("operation cancelled: actual cost limit exceeded"),
        ),
    ];
    for (source, expected) in cases {
        assert_eq!(eval(source, &[]), expected.map_err(str::to_owned), "{source}");
    }
}

#[test]
fn an_expression_must_yield_what_is_wanted() {
    let found = |source: &str, wanted: &[Type]| compile(source, &[], wanted).map(drop);
    assert_eq!(
        found("1 + 1", &[Type::Bool]),
        Err("must evaluate to bool but got int".to_owned())
    );
    assert_eq!(
        found("true", &[Type::String, Type::Null]),
        Err("must evaluate to one of [string null] but got bool".to_owned())
    );
    assert_eq!(found("object.n == 1", &[Type::Bool]), Ok(()));
    assert_eq!(found("object.n", &[Type::Bool]), Ok(()), "nothing is known of it");
    let patches = [Type::List(Arc::new(Type::Message(JSON_PATCH.into())))];
    assert_eq!(found("[JSONPatch{op: 'remove', path: '/a'}]", &patches), Ok(()));
    let object = "must evaluate to list(JSONPatch) but got Object";
    assert_eq!(found("Object{}", &patches), Err(object.to_owned()));
}

#[test]
fn variables_may_not_stand_upon_each_other_without_end() {
    let names: Vec<String> = (0..200).map(|i| format!("v{i}")).collect();
    let sources: Vec<String> = (0..200_usize)
        .map(|i| {
            i.checked_sub(1)
                .map_or("1".to_owned(), |below| format!("variables.v{below} + 1"))
        })
        .collect();
    let variables: Vec<(&str, &str)> = names
        .iter()
        .map(String::as_str)
        .zip(sources.iter().map(String::as_str))
        .collect();
    let refused = eval("variables.v199", &variables).expect_err("too deep");
    assert!(refused.contains("nested too deeply"), "{refused}");
    assert_eq!(eval("variables.v9", &variables), Ok(json!(10)));
}

#[test]
fn a_schema_declares_what_expressions_see() {
    use k8s_openapi::api::apps::v1::Deployment;
    let schema = crate::Schema::of::<Deployment>("io.k8s.api.apps.v1.Deployment");
    let inputs = [("object", super::declare(&schema))];
    let environment = Environment {
        inputs: &inputs,
        variables: None,
        messages: false,
    };
    let found = |source: &str| {
        let compiled = Program::of_policy(source, &environment, &[]);
        compiled
            .map(|(_, type_)| show(&type_))
            .map_err(|error| error.to_string())
    };
    assert_eq!(found("object.spec.replicas > 1"), Ok("bool".to_owned()));
    let words = "found no matching overload for '_>_' applied to '(int, string)'";
    assert!(
        found("object.spec.replicas > '1'")
            .expect_err("refused")
            .contains(words)
    );
    let words = "found no matching overload for '_+_' applied to '(string, int)'";
    assert!(
        found("'wants ' + object.spec.replicas")
            .expect_err("refused")
            .contains(words)
    );
    assert!(
        found("object.spec.maxReplicas")
            .expect_err("refused")
            .contains("undefined field 'maxReplicas'")
    );
    assert_eq!(found("object.metadata.labels['a']"), Ok("string".to_owned()));
    assert_eq!(
        found("object.spec.template.spec.containers[0].image"),
        Ok("string".to_owned())
    );
}
