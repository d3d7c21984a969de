//! Rules shared by several kinds. A rule takes the place it checks ([`At`]) and adds to a list of errors: all problems are
//! reported, none hides another. The wording is Kubernetes', because people search for it.

mod at;
pub(crate) mod labels;
pub(crate) mod meta;
pub(crate) mod names;
pub(crate) mod pod;
pub(crate) mod quantity;

pub(crate) use at::At;
