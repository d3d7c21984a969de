//! A compiled schema: what may stand where, without prose. One node per definition, shared by all kinds that use it.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use crate::facts::{self, FieldFacts};

/// What a value may be.
#[derive(Clone, Debug)]
pub(crate) enum Type {
    /// Anything, kept as it is.
    Any,
    Bool,
    Int32,
    Int64,
    Double,
    String,
    /// Base64 text.
    Bytes,
    /// RFC 3339, stored with whole seconds.
    Time,
    /// RFC 3339, stored with six digits.
    MicroTime,
    /// Stored in canonical form.
    Quantity,
    IntOrString,
    List(Box<Type>),
    Map(Box<Type>),
    Struct(Link),
}

/// A reference to a definition. Definitions may contain each other.
pub(crate) type Link = Arc<Definition>;

/// A definition by name; its body is there as soon as the schema that names it is handed out.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) body: OnceLock<Struct>,
}

impl Definition {
    pub(crate) fn body(&self) -> &Struct {
        self.body
            .get()
            .expect("a schema is handed out when all its definitions are compiled")
    }

    /// The type's name in Kubernetes' Go code (`PodSpec`).
    pub(crate) fn go_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }
}

/// The fields of a definition, sorted by name.
#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) fields: Box<[Field]>,
    /// Whether other fields may stand beside them, and hold anything.
    pub(crate) open: bool,
}

/// One field and what is known of it.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) type_: Type,
    pub(crate) required: bool,
    pub(crate) facts: Facts,
}

/// The facts of a field: of a built-in kind, or of one that comes and goes.
#[derive(Debug)]
pub(crate) enum Facts {
    Known(&'static FieldFacts),
    Own(Box<FieldFacts>),
}

impl Facts {
    pub(crate) const NONE: Self = Self::Known(&facts::NONE);
}

impl Deref for Facts {
    type Target = FieldFacts;

    fn deref(&self) -> &FieldFacts {
        match self {
            Self::Known(facts) => facts,
            Self::Own(facts) => facts,
        }
    }
}

impl Struct {
    /// A field and its place among the fields.
    pub(crate) fn find(&self, name: &str) -> Option<(usize, &Field)> {
        let index = self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok()?;
        self.fields.get(index).map(|field| (index, field))
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.find(name).map(|(_, field)| field)
    }
}

impl Type {
    /// The definition, if this is one.
    pub(crate) fn definition(&self) -> Option<&Definition> {
        match self {
            Self::Struct(link) => Some(link),
            _ => None,
        }
    }

    /// As Go's reflection prints the type in its decoding errors.
    pub(crate) fn go(&self) -> String {
        match self {
            Self::Any => "interface {}".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Int32 => "int32".to_owned(),
            Self::Int64 => "int64".to_owned(),
            Self::Double => "float64".to_owned(),
            Self::String => "string".to_owned(),
            Self::Bytes => "[]uint8".to_owned(),
            Self::Time => "v1.Time".to_owned(),
            Self::MicroTime => "v1.MicroTime".to_owned(),
            Self::Quantity => "resource.Quantity".to_owned(),
            Self::IntOrString => "intstr.IntOrString".to_owned(),
            Self::List(item) => format!("[]{}", item.go()),
            Self::Map(value) => format!("map[string]{}", value.go()),
            Self::Struct(link) => {
                let mut parts = link.name.rsplit('.');
                let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                format!("{package}.{name}")
            }
        }
    }
}
