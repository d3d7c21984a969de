//! Strategic merge patch: a merge that knows from the schema which lists are merged item by item, and by which field.
//!
//! Rules and order are those of `k8s.io/apimachinery/pkg/util/strategicpatch`. Directives:
//! - `$patch: delete | replace` in a map or a list's item;
//! - `$retainKeys: [..]` removes what is not named;
//! - `$deleteFromPrimitiveList/<list>: [..]` removes items of a list of scalars;
//! - `$setElementOrder/<list>: [..]` says in which order the items shall stand.

mod directive;
mod list;
mod order;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use self::directive::{DELETE_ITEMS, PATCH, SET_ORDER};
use super::PatchError;
use crate::{
    facts::{FieldFacts, NONE},
    model::{Struct, Type},
    schema::Schema,
};

type Tree = Map<String, Value>;

/// Applies a patch; on an error the document is spoilt.
///
/// # Errors
/// When the patch is no map, a directive makes no sense, or a list's item lacks the field that names it.
pub fn strategic(document: &mut Value, patch: &Value, schema: &Schema) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed {
            message: "a patch must be a JSON map".to_owned(),
        });
    };
    let original = match document.take() {
        Value::Object(map) => map,
        _ => Tree::new(),
    };
    *document = Value::Object(merge_map(original, patch.clone(), schema.root())?);
    Ok(())
}

/// What the schema says of one entry of a map.
struct Entry<'a> {
    type_: &'a Type,
    facts: &'a FieldFacts,
}

fn entry<'a>(type_: &'a Type, name: &str) -> Entry<'a> {
    let field = match type_ {
        Type::Struct(link) => Struct::field(link.body(), name),
        _ => None,
    };
    match (field, type_) {
        (Some(field), _) => Entry {
            type_: &field.type_,
            facts: &field.facts,
        },
        (None, Type::Map(value)) => Entry {
            type_: value,
            facts: &NONE,
        },
        (None, _) => Entry {
            type_: &Type::Any,
            facts: &NONE,
        },
    }
}

impl<'a> Entry<'a> {
    fn item_type(&self) -> &'a Type {
        match self.type_ {
            Type::List(item) => item,
            _ => &Type::Any,
        }
    }
}

fn merge_map(mut original: Tree, mut patch: Tree, type_: &Type) -> Result<Tree, PatchError> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(directive::without(patch)),
            Some("delete") => Ok(Tree::new()),
            _ => Err(directive::bad_type(&directive, &patch)),
        };
    }
    directive::retain_keys(&mut original, &mut patch)?;
    order::apply(&mut original, &mut patch, type_)?;
    for (key, value) in patch {
        merge_entry(&mut original, key, value, type_)?;
    }
    Ok(original)
}

fn merge_entry(original: &mut Tree, key: String, patch: Value, type_: &Type) -> Result<(), PatchError> {
    if key.starts_with(DELETE_ITEMS) {
        let key = directive::list_name(&key, DELETE_ITEMS)?;
        return list::delete_items(original, key, &patch);
    }
    if key.starts_with(SET_ORDER) {
        return Ok(());
    }
    if patch.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let entry = entry(type_, &key);
    let merged = match (original.remove(&key), patch) {
        (Some(Value::Object(original)), Value::Object(patch)) => {
            Value::Object(merge_map(original, patch, entry.type_)?)
        }
        (Some(Value::Array(original)), Value::Array(patch)) => Value::Array(list::merge(original, patch, &entry)?),
        // Nothing to merge with, or something of another type: the patch stands as it is, less what only directs.
        (_, patch) => match directive::stripped(patch) {
            Some(value) => value,
            None => return Ok(()),
        },
    };
    original.insert(key, merged);
    Ok(())
}
