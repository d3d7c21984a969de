//! Fields that an applier wants to have otherwise, while others own them: in the words in which Kubernetes tells of them.

use api::{Status, StatusCause, text::quote};

use super::{
    managers::{Manager, Operation},
    set::Set,
};

/// The fields of one manager that an apply would change.
pub(super) struct Conflicts<'a> {
    pub(super) manager: Manager<'a>,
    pub(super) fields: Set<'a>,
}

/// 409 for conflicts, those of one manager together.
pub(super) fn status(mut conflicts: Vec<Conflicts<'_>>) -> Status {
    conflicts.sort_by(|a, b| a.manager.order(&b.manager));
    let (mut causes, mut lines, mut single) = (Vec::new(), Vec::new(), String::new());
    for conflict in &conflicts {
        let manager = words(&conflict.manager);
        lines.push(format!("conflicts with {manager}:"));
        conflict.fields.each_path(&mut |path| {
            single = format!("conflict with {manager}: {path}");
            lines.push(format!("- {path}"));
            causes.push(StatusCause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {manager}"),
                field: path.to_owned(),
            });
        });
    }
    let message = match causes.len() {
        1 => format!("Apply failed with 1 conflict: {single}"),
        many => format!("Apply failed with {many} conflicts: {}", lines.join("\n")),
    };
    Status::apply_conflict(causes, message)
}

fn words(manager: &Manager<'_>) -> String {
    let mut text = quote(&manager.name);
    if !manager.subresource.is_empty() {
        text.push_str(" with subresource ");
        text.push_str(&quote(&manager.subresource));
    }
    if manager.operation == Operation::Update {
        text.push_str(" using ");
        text.push_str(&manager.version);
    }
    text
}
