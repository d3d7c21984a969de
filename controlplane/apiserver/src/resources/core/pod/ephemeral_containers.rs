//! `pods/ephemeralcontainers`: adds containers for debugging to a pod that exists. They stay as they are once they are there.

use api::field::Path;
use api::{FieldError, FieldErrors, Object};

use super::{MIRROR, keep_metadata};
use crate::resources::copy_field;
use crate::resources::validation::At;
use crate::resources::validation::pod::update::differences;

/// Takes the ephemeral containers of the new pod and all else of the old.
pub(super) fn prepare(old: &Object, new: &mut Object) {
    let containers = new.remove("spec.ephemeralContainers");
    copy_field(old, new, "spec");
    copy_field(old, new, "status");
    keep_metadata(old, new);
    match containers {
        Some(containers) => new.set("spec.ephemeralContainers", containers),
        None => drop(new.remove("spec.ephemeralContainers")),
    }
}

pub(super) fn rules(old: &Object, new: &Object, errors: &mut FieldErrors) {
    if old.annotation(MIRROR).is_some() {
        *errors = vec![FieldError::forbidden(
            &Path::root(""),
            "static pods do not support ephemeral containers",
        )];
        return;
    }
    let containers = |pod| At::root(pod, "spec").child("ephemeralContainers");
    let now = containers(new);
    let items = now.items();
    for before in containers(old).items() {
        let name = before.child("name");
        let Some(after) = items.iter().find(|item| item.child("name").str() == name.str()) else {
            errors.push(now.forbidden(format!(
                "existing ephemeral containers {:?} may not be removed\n",
                name.str()
            )));
            continue;
        };
        let mut changed = Vec::new();
        if let (Some(after), Some(before)) = (after.value(), before.value()) {
            differences(after, before, "", &mut changed);
        }
        if !changed.is_empty() {
            errors.push(now.forbidden(format!(
                "existing ephemeral containers {:?} may not be changed\n{}",
                name.str(),
                changed.join("\n")
            )));
        }
    }
}
