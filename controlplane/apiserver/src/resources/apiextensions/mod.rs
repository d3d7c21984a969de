//! `apiextensions.k8s.io`: the definitions of custom resources. What becomes of them is in [`crate::extensions`].

pub(crate) mod custom_resource_definition;
mod names;
pub(crate) mod spec;
mod versions;
