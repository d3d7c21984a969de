//! What the expressions of webhooks and policies may name, and how they are compiled. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::cel::{self, CompileError, Environment, Program, Type, Variable};
use serde_json::Value;

/// What an expression may name beside the request and its objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extras {
    pub(crate) params: bool,
    pub(crate) authorizer: bool,
}

/// The type of the objects, where it is known.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) object: Type,
    pub(crate) params: Type,
}

impl Known {
    /// Nothing is known of them.
    pub(crate) const NOTHING: Known = Known {
        object: Type::Dyn,
        params: Type::Dyn,
    };
}

/// Compiles the expressions of one webhook or policy.
pub(crate) struct Compiler {
    inputs: Vec<(&'static str, Type)>,
    without_authorizer: Vec<(&'static str, Type)>,
    /// `None` where there can be no variables.
    types: Option<BTreeMap<String, Type>>,
    programs: BTreeMap<String, Variable>,
}

/// What an expression may be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) no_authorizer: bool,
    pub(crate) messages: bool,
}

impl Compiler {
    /// For match conditions of webhooks.
    pub(crate) fn plain() -> Self {
        let extras = Extras {
            params: false,
            authorizer: true,
        };
        Compiler {
            types: None,
            ..Self::of_policy(extras, &Known::NOTHING)
        }
    }

    /// For policies, which have variables.
    pub(crate) fn of_policy(extras: Extras, known: &Known) -> Self {
        Compiler {
            inputs: inputs(extras, known),
            without_authorizer: inputs(
                Extras {
                    authorizer: false,
                    ..extras
                },
                known,
            ),
            types: Some(BTreeMap::new()),
            programs: BTreeMap::new(),
        }
    }

    /// Declares a variable that what is compiled from now on may name.
    pub(crate) fn declare(&mut self, name: &str, source: &str) -> Result<(), CompileError> {
        let compiled = self.program(source, Options::default(), &[]);
        let type_ = compiled.as_ref().map_or(Type::Dyn, |(_, type_)| type_.clone());
        if let Some(types) = &mut self.types {
            types.insert(name.to_owned(), type_);
        }
        let (program, failed) = match compiled {
            Ok((program, _)) => (Ok(program), None),
            Err(error) => (Err(error.to_string()), Some(error)),
        };
        self.programs.insert(name.to_owned(), program);
        failed.map_or(Ok(()), Err)
    }

    /// Compiles an expression; `wanted` are the types that it may yield, all when there are none.
    pub(crate) fn program(
        &self,
        source: &str,
        options: Options,
        wanted: &[Type],
    ) -> Result<(Program, Type), CompileError> {
        let types = self.types.as_ref();
        let environment = Environment {
            inputs: if options.no_authorizer {
                &self.without_authorizer
            } else {
                &self.inputs
            },
            variables: types.map(|types| (&self.programs, cel::object(types.clone()))),
            messages: options.messages,
        };
        Program::of_policy(source, &environment, wanted)
    }

    /// The variables, when all are declared.
    pub(crate) fn variables(self) -> Arc<BTreeMap<String, Variable>> {
        Arc::new(self.programs)
    }
}

fn inputs(extras: Extras, known: &Known) -> Vec<(&'static str, Type)> {
    let mut inputs = vec![
        ("object", known.object.clone()),
        ("oldObject", known.object.clone()),
        ("request", request()),
        ("namespaceObject", namespace()),
    ];
    if extras.params {
        inputs.push(("params", known.params.clone()));
    }
    if extras.authorizer {
        inputs.push((cel::AUTHORIZER, Type::Opaque("kubernetes.authorization.Authorizer")));
        inputs.push((
            cel::REQUEST_RESOURCE,
            Type::Opaque("kubernetes.authorization.ResourceCheck"),
        ));
    }
    inputs
}

fn fields(of: &[(&str, Type)]) -> Type {
    cel::object(of.iter().map(|(name, type_)| ((*name).to_owned(), type_.clone())))
}

fn texts(names: &[&'static str]) -> Vec<(&'static str, Type)> {
    names.iter().map(|name| (*name, Type::String)).collect()
}

fn list(of: Type) -> Type {
    Type::List(Arc::new(of))
}

fn request() -> Type {
    let (kind, resource) = (
        fields(&texts(&["group", "version", "kind"])),
        fields(&texts(&["group", "version", "resource"])),
    );
    let user = fields(&[
        ("username", Type::String),
        ("uid", Type::String),
        ("groups", list(Type::String)),
        ("extra", Type::Map(Arc::new(list(Type::String)))),
    ]);
    fields(&[
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("subResource", Type::String),
        ("requestKind", kind),
        ("requestResource", resource),
        ("requestSubResource", Type::String),
        ("name", Type::String),
        ("namespace", Type::String),
        ("operation", Type::String),
        ("userInfo", user),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ])
}

fn namespace() -> Type {
    let labels = Type::Map(Arc::new(Type::String));
    let mut metadata = texts(&[
        "name",
        "generateName",
        "namespace",
        "UID",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
    ]);
    metadata.extend([
        ("labels", labels.clone()),
        ("annotations", labels),
        ("deletionGracePeriodSeconds", Type::Int),
        ("generation", Type::Int),
        ("finalizers", list(Type::String)),
    ]);
    let condition = fields(&texts(&["status", "type", "lastTransitionTime", "message", "reason"]));
    fields(&[
        ("metadata", fields(&metadata)),
        ("spec", fields(&[("finalizers", list(Type::String))])),
        (
            "status",
            fields(&[("conditions", list(condition)), ("phase", Type::String)]),
        ),
    ])
}

/// Text of a field, empty where there is none.
pub(crate) fn text<'v>(of: &'v Value, field: &str) -> &'v str {
    of.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Items of a field.
pub(crate) fn items<'v>(of: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    of.get(field).and_then(Value::as_array).into_iter().flatten()
}
