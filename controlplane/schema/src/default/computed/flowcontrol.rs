//! Flow schemas and priority levels.

use super::{Tree, ensure_number};

pub(super) fn schema(spec: &mut Tree) {
    ensure_number(spec, "matchingPrecedence", 1000);
}

pub(super) fn queuing(queuing: &mut Tree) {
    for (field, number) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
        ensure_number(queuing, field, number);
    }
}
