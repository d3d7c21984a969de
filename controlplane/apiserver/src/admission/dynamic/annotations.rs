//! What admission says about a request for the audit log, and to nobody else.
//!
//! Whoever writes the log puts an `Arc<Annotations>` into the request's extensions before the request is dispatched, and
//! reads it when the answer is there. Without one, nothing is kept beyond the request.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Bytes that one request's annotations may have in all.
const MAX: usize = 1 << 20;

/// Keys and values.
#[derive(Debug, Default)]
pub struct Annotations(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<String, String>,
    size: usize,
}

impl Annotations {
    /// Adds an annotation; the first one of a key stays.
    pub fn add(&self, key: String, value: String) {
        let mut kept = self.0.lock();
        let size = kept.size + key.len() + value.len();
        if size <= MAX && !kept.entries.contains_key(&key) {
            kept.size = size;
            kept.entries.insert(key, value);
        }
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.0.lock().entries.clone()
    }
}
