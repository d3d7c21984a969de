//! What every part of the control plane and the node agree on: the object as it travels, and how it is named, selected,
//! refused and printed.
//!
//! Everything here is a pure function or a value. Nothing reads a clock, a socket or a file, and nothing knows the schema
//! of a kind: that is the `schema` crate's.

pub mod cluster_dns;
pub mod field;
pub mod names;
pub mod object;
pub mod quantity;
pub mod selector;
pub mod status;
pub mod table;
pub mod text;
pub mod time;

pub use field::{FieldError, FieldErrors, Path};
pub use names::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource, NamespacedName, Uid};
pub use object::{NotAnObject, Object, OwnerReference};
pub use quantity::Quantity;
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Status, StatusCause, StatusDetails};
pub use table::{Column, Row, Table};
pub use time::Timestamp;
