//! Kinds of this group (dynamic resource allocation, KEP-4381); see each file.

mod capacity;
mod claim;
mod device;
pub(crate) mod device_class;
mod lists;
mod names;
pub(crate) mod resource_claim;
pub(crate) mod resource_claim_template;
pub(crate) mod resource_slice;
mod status;

const MAX_REQUESTS: usize = 32;
const MAX_SELECTORS: usize = 32;
const MAX_CONFIG: usize = 32;
