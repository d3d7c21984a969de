//! What one request is to be answered with: what it accepts, against what its endpoint and verb can give.

use api::Status;
use http::HeaderName;
use http::header::{ACCEPT, USER_AGENT};

use super::accept::{self, Accepted, check, has_message, negotiate, negotiate_whole};
use super::route::Route;
use crate::registry::catalog::Endpoint;
use crate::registry::resource::Subresource;
use crate::registry::virtuals::VirtualRoute;

/// In which form and encoding the answer of an endpoint goes out.
pub(super) fn accepted(
    route: Route<'_>,
    endpoint: &Endpoint,
    subresource: Option<&Subresource>,
) -> Result<Accepted, Status> {
    let part_of_own = subresource.and_then(Subresource::kind);
    let built_in = || part_of_own.is_some() || is_built_in(endpoint);
    let accepted = negotiate(header(route, ACCEPT), built_in)?;
    check(accepted, route.info.verb, || go_types(endpoint))?;
    Ok(for_people(route, accepted))
}

/// The same for an endpoint of its own, which makes the form itself; as protobuf only where its kind has a message.
pub(super) fn accepted_virtual(route: Route<'_>, endpoint: &VirtualRoute) -> Result<Accepted, Status> {
    let (group, version) = endpoint
        .kind_group_version
        .unwrap_or((endpoint.group, endpoint.version));
    let api_version = api::GroupVersion::new(group, version).to_string();
    let as_protobuf = || endpoint.definition.is_none() || has_message(&api_version, endpoint.kind);
    negotiate_whole(header(route, ACCEPT), as_protobuf).map(|accepted| for_people(route, accepted))
}

/// Whether objects of the endpoint can be sent as protobuf.
pub(super) fn is_built_in(endpoint: &Endpoint) -> bool {
    has_message(&endpoint.served().api_version, &endpoint.resource().kind)
}

/// Decides whether the answer is indented: by the query, else by the clause that was met or the program that asks.
fn for_people(route: Route<'_>, accepted: Accepted) -> Accepted {
    let pretty = match route.query.get("pretty") {
        Some(asked) => matches!(asked, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => accepted.pretty || accept::is_for_people(header(route, USER_AGENT)),
    };
    Accepted { pretty, ..accepted }
}

/// What Go calls the endpoint's object and list.
fn go_types(endpoint: &Endpoint) -> (String, String) {
    let resource = endpoint.resource();
    if !is_built_in(endpoint) {
        let of = |suffix: &str| format!("*unstructured.Unstructured{suffix}");
        return (of(""), of("List"));
    }
    let package = match resource.group.split('.').next() {
        None | Some("") => "core",
        Some(package) => package,
    };
    let (kind, list) = (&resource.kind, &resource.list_kind);
    (format!("*{package}.{kind}"), format!("*{package}.{list}"))
}

fn header<'a>(route: Route<'a>, name: HeaderName) -> Option<&'a str> {
    route.parts.headers.get(name).and_then(|v| v.to_str().ok())
}
