//! One constructor per error that Kubernetes knows: its code, reason, words and details.

use super::{ListMeta, Status, StatusCause, StatusDetails};
use crate::{
    field::{FieldError, aggregate},
    names::{GroupKind, GroupResource},
    text::quote,
};

impl Status {
    fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            metadata: ListMeta::default(),
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            details: None,
            code,
        }
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        resource.group.clone_into(&mut details.group);
        resource.resource.clone_into(&mut details.kind);
        name.clone_into(&mut details.name);
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The answer to what succeeded and has no object to show, such as a finished deletion.
    pub fn success(details: StatusDetails) -> Self {
        let mut status = Self::failure(0, "", "");
        "Success".clone_into(&mut status.status);
        status.details = Some(Box::new(details));
        status
    }

    /// 404: no such object.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::failure(404, "NotFound", format!("{resource} {} not found", quote(name))).about(resource, name)
    }

    /// 404: no such path.
    pub fn no_such_path() -> Self {
        let mut status = Self::failure(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::failure(
            409,
            "AlreadyExists",
            format!("{resource} {} already exists", quote(name)),
        )
        .about(resource, name)
    }

    /// 409: a generated name is taken.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str, retry_seconds: u32) -> Self {
        let why = "already exists, the server was not able to generate a unique name for the object";
        Self::failure(409, "AlreadyExists", format!("{resource} {} {why}", quote(name)))
            .about(resource, name)
            .retry_after(retry_seconds)
    }

    /// 409: the object is not as the caller assumed.
    pub fn conflict(resource: &GroupResource, name: &str, message: &str) -> Self {
        let text = format!("Operation cannot be fulfilled on {resource} {}: {message}", quote(name));
        Self::failure(409, "Conflict", text).about(resource, name)
    }

    /// 409: the resource version given is not the current one.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 409: fields of an applied configuration belong to others.
    pub fn apply_conflict(causes: Vec<StatusCause>, message: impl Into<String>) -> Self {
        let mut status = Self::failure(409, "Conflict", message);
        status.details.get_or_insert_default().causes = causes;
        status
    }

    /// 500 without a reason: what Kubernetes answers where its code has an error that is no Status.
    pub fn unexplained(message: impl Into<String>) -> Self {
        Self::failure(500, "", message)
    }

    /// 422: the object breaks its rules. Every error is a cause; the message has each once.
    pub fn invalid(kind: &GroupKind, name: &str, errors: Vec<FieldError>) -> Self {
        let message = match errors.as_slice() {
            [] => format!("{kind} {} is invalid", quote(name)),
            errors => format!("{kind} {} is invalid: {}", quote(name), aggregate(errors)),
        };
        let mut status = Self::failure(422, "Invalid", message);
        status.details = Some(Box::new(StatusDetails {
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            name: name.to_owned(),
            causes: errors.into_iter().map(cause).collect(),
            ..StatusDetails::default()
        }));
        status
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 403: not allowed. An empty name speaks of the whole resource, an empty resource of nothing in particular.
    pub fn forbidden(resource: &GroupResource, name: &str, message: &str) -> Self {
        let text = match (resource.resource.as_str(), name) {
            ("", _) => format!("forbidden: {message}"),
            (_, "") => format!("{resource} is forbidden: {message}"),
            _ => format!("{resource} {} is forbidden: {message}", quote(name)),
        };
        Self::failure(403, "Forbidden", text).about(resource, name)
    }

    /// 401: nobody known.
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 405: the resource does not do this.
    pub fn method_not_supported(resource: &GroupResource, verb: &str) -> Self {
        let text = format!(
            "{verb} is not supported on resources of kind {}",
            quote(&resource.to_string())
        );
        Self::failure(405, "MethodNotAllowed", text).about(resource, "")
    }

    /// 410: the revision asked for is no longer kept; list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 410: gone for good.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, "Gone", message)
    }

    /// 413: the body is too large.
    pub fn too_large(message: &str) -> Self {
        Self::failure(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: {message}"),
        )
    }

    /// 415: the body's media type is not among `accepted`.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        let text = format!("the body of the request was in an unknown format - accepted media types include: {list}");
        Self::failure(415, "UnsupportedMediaType", text)
    }

    /// 406: none of the media types that the caller accepts can be made.
    pub fn not_acceptable(offered: &[&str]) -> Self {
        let list = offered.join(", ");
        Self::failure(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {list}"),
        )
    }

    /// 429: later, please.
    pub fn too_many_requests(message: impl Into<String>, retry_seconds: u32) -> Self {
        Self::failure(429, "TooManyRequests", message).retry_after(retry_seconds)
    }

    /// 500: our fault. The message is for the caller: no inside detail.
    pub fn internal(message: &str) -> Self {
        let mut status = Self::failure(500, "InternalError", format!("Internal error occurred: {message}"));
        status.details.get_or_insert_default().causes = vec![StatusCause {
            message: message.to_owned(),
            ..StatusCause::default()
        }];
        status
    }

    /// 503: something we need is away.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// 504: it took too long.
    pub fn timeout(message: &str, retry_seconds: u32) -> Self {
        Self::failure(504, "Timeout", format!("Timeout: {message}")).retry_after(retry_seconds)
    }

    /// 500: the operation may or may not have happened; try again.
    pub fn server_timeout(resource: &GroupResource, operation: &str, retry_seconds: u32) -> Self {
        let text = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::failure(500, "ServerTimeout", text)
            .about(resource, operation)
            .retry_after(retry_seconds)
    }
}

fn cause(error: FieldError) -> StatusCause {
    StatusCause {
        reason: error.kind.reason().to_owned(),
        message: error.body(),
        field: error.path,
    }
}
