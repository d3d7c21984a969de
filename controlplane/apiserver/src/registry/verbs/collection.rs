//! deletecollection: what a list would return, each deleted as delete would.

use api::Status;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::Call;
use super::delete::delete_object;
use super::list::list_type;
use super::options::DeleteOptions;
use super::page::{Listed, page};
use crate::registry::name_of;
use crate::registry::render;
use crate::registry::select::Selection;

/// Deletes in flight at once; the store commits them together.
const CONCURRENT: usize = 16;

/// Deletes the selected objects of the call's namespace; answers with the list of them as they were, as JSON.
pub(crate) async fn delete_collection(call: &Call<'_>, options: &DeleteOptions) -> Result<Bytes, Status> {
    let selection = Selection::parse(call.query, call.endpoint.resource(), None)?;
    let page = page(call, &selection).await?;
    let listed: Vec<_> = page
        .items
        .iter()
        .filter_map(|listed| match listed {
            Listed::Cached(item) => Some((
                item.key.clone(),
                render::cached(call.endpoint, call.accepted.form, item),
            )),
            Listed::Past(_) => None,
        })
        .collect();
    let names: Vec<String> = listed.iter().map(|(key, _)| name_of(key).to_owned()).collect();
    stream::iter(names)
        .map(|name| async move {
            match delete_object(call, &name, options).await {
                Err(status) if !status.is("NotFound") => Err(status),
                _ => Ok(()),
            }
        })
        .buffer_unordered(CONCURRENT)
        .try_collect::<()>()
        .await?;
    Ok(joined(
        call,
        &page.revision.to_string(),
        listed.into_iter().map(|(_, bytes)| bytes),
    ))
}

fn joined(call: &Call<'_>, revision: &str, items: impl Iterator<Item = Bytes>) -> Bytes {
    let (kind, version) = list_type(call.endpoint, call.accepted.form);
    let (kind, version) = (json!(kind), json!(version));
    let head =
        format!(r#"{{"kind":{kind},"apiVersion":{version},"metadata":{{"resourceVersion":"{revision}"}},"items":["#);
    let mut out = head.into_bytes();
    for (nth, item) in items.enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&item);
    }
    out.extend_from_slice(b"]}");
    out.into()
}
