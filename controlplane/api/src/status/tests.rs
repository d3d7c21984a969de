use super::*;
use crate::{
    field::{FieldError, Path},
    names::{GroupKind, GroupResource},
};

fn deployments() -> GroupResource {
    GroupResource::new("apps", "deployments")
}

#[test]
fn words_errors_as_kubernetes_does() {
    let (pods, any) = (GroupResource::new("", "pods"), GroupResource::new("", ""));
    for (status, code, reason, message) in [
        (Status::not_found(&pods, "a"), 404, "NotFound", r#"pods "a" not found"#),
        (
            Status::not_found(&deployments(), "a"),
            404,
            "NotFound",
            r#"deployments.apps "a" not found"#,
        ),
        (
            Status::no_such_path(),
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        (
            Status::already_exists(&pods, "a"),
            409,
            "AlreadyExists",
            r#"pods "a" already exists"#,
        ),
        (
            Status::modified(&GroupResource::new("", "configmaps"), "x"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; please apply your changes \
             to the latest version and try again",
        ),
        (Status::bad_request("no"), 400, "BadRequest", "no"),
        (Status::forbidden(&any, "", "why"), 403, "Forbidden", "forbidden: why"),
        (
            Status::forbidden(&pods, "", "why"),
            403,
            "Forbidden",
            "pods is forbidden: why",
        ),
        (
            Status::forbidden(&pods, "a", "why"),
            403,
            "Forbidden",
            r#"pods "a" is forbidden: why"#,
        ),
        (Status::unauthorized(), 401, "Unauthorized", "Unauthorized"),
        (
            Status::method_not_supported(&deployments(), "patch"),
            405,
            "MethodNotAllowed",
            r#"patch is not supported on resources of kind "deployments.apps""#,
        ),
        (Status::expired("too old"), 410, "Expired", "too old"),
        (Status::gone("gone"), 410, "Gone", "gone"),
        (
            Status::too_large("limit is 5"),
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 5",
        ),
        (
            Status::unsupported_media_type(&["application/json", "application/yaml"]),
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml",
        ),
        (
            Status::not_acceptable(&["application/json"]),
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json",
        ),
        (Status::too_many_requests("later", 1), 429, "TooManyRequests", "later"),
        (
            Status::internal("oops"),
            500,
            "InternalError",
            "Internal error occurred: oops",
        ),
        (Status::service_unavailable("away"), 503, "ServiceUnavailable", "away"),
        (Status::timeout("slow", 0), 504, "Timeout", "Timeout: slow"),
        (
            Status::server_timeout(&pods, "list", 2),
            500,
            "ServerTimeout",
            "The list operation against pods could not be completed at this time, please try again.",
        ),
    ] {
        assert_eq!(
            (status.code, status.reason.as_str(), status.to_string().as_str()),
            (code, reason, message)
        );
        assert_eq!(status.status, "Failure");
    }
}

#[test]
fn an_invalid_object_names_every_error_once() {
    let containers = Path::root("spec").child("containers");
    let required = FieldError::required(&containers.index(0).child("name"), "");
    let one = Status::invalid(&GroupKind::new("", "Pod"), "x", vec![required.clone()]);
    assert_eq!(
        one.message,
        r#"Pod "x" is invalid: spec.containers[0].name: Required value"#
    );
    let more = vec![
        required.clone(),
        FieldError::duplicate(&containers.index(1).child("name"), "a"),
        required,
    ];
    insta::assert_json_snapshot!(Status::invalid(&GroupKind::new("apps", "Deployment"), "x", more));
}

#[test]
fn a_status_reads_back_from_its_json() {
    let status = Status::too_many_requests("later", 3);
    assert_eq!(serde_json::from_slice::<Status>(&status.to_vec()).unwrap(), status);
    let text = String::from_utf8(
        Status::success(StatusDetails {
            name: "a".into(),
            ..Default::default()
        })
        .to_vec(),
    );
    assert_eq!(
        text.unwrap(),
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"a"}}"#
    );
}
