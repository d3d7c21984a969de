//! OCI's distribution specification 1.1, pull and push: what `wherry image push`, `oras`, `skopeo` and the nodes speak.
//!
//! A client that pushes uploads content first and names it in a manifest last; content that no manifest names within the hour
//! goes again. A manifest is taken only if what it holds is a program that nodes can run.

use std::sync::Arc;

use api::Status;
use apiserver::http::body::Body;
use apiserver::images::{Part, Place};
use apiserver::registry::virtuals::{Request, Response, VirtualContext};
use futures::StreamExt;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use crate::arrive::{Upload, blocking};
use crate::digest::Digest;
use crate::name::{Repository, Target};
use crate::resource::{bad, decoded, length, namespace};
use crate::{Inner, MAX_DOCUMENT, Made, Pieces, manifest, status};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const OCTETS: &str = "application/octet-stream";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// How much of content is read at once.
const PIECE: usize = 64 << 10;

/// Answers a request below `/v2/`.
pub(crate) async fn answer(
    registry: &Arc<Inner>,
    cx: &VirtualContext,
    place: Place<'_>,
    request: Request,
) -> Result<Response, Status> {
    let repository = Repository::new(place.namespace, place.name).map_err(bad)?;
    let at = At {
        registry,
        cx,
        repository,
    };
    let method = request.method().clone();
    match (place.part, method.as_str()) {
        (Part::Manifest(target), "GET" | "HEAD") => at.manifest(&target.parse().map_err(bad)?, &method).await,
        (Part::Manifest(target), "PUT") => at.put_manifest(target.parse().map_err(bad)?, request).await,
        (Part::Manifest(target), "DELETE") => {
            registry
                .remove(&at.repository, &target.parse().map_err(bad)?, cx.now)
                .await?;
            Ok(plain(StatusCode::ACCEPTED))
        }
        (Part::Blob(digest), "GET" | "HEAD") => {
            at.blob(&digest.parse().map_err(bad)?, &method, request.headers()).await
        }
        (Part::Uploads, "POST") => at.begin(request).await,
        (Part::Upload(id), "GET") => at.arrived(id).await,
        (Part::Upload(id), "PATCH") => at.append(id, request).await,
        (Part::Upload(id), "PUT") => at.finish(id, request).await,
        (Part::Upload(id), "DELETE") => {
            at.take(id)?;
            Ok(plain(StatusCode::NO_CONTENT))
        }
        (Part::Tags, "GET") => {
            registry.fresh().await?;
            at.tags(&request)
        }
        (Part::Referrers(digest), "GET") => referrers(&digest.parse().map_err(bad)?),
        _ => Err(Status::method_not_supported(
            &status::resource(),
            &method.as_str().to_lowercase(),
        )),
    }
}

/// One request to a repository.
struct At<'a> {
    registry: &'a Arc<Inner>,
    cx: &'a VirtualContext,
    repository: Repository,
}

impl At<'_> {
    async fn manifest(&self, target: &Target, method: &Method) -> Result<Response, Status> {
        let missing = || status::not_found(&format!("{}{}", self.repository.name, target.suffix()));
        self.registry.fresh().await?;
        let (digest, manifest) = self.registry.store.find(&self.repository, target).ok_or_else(missing)?;
        let found = self.registry.content(&self.repository, &digest).await?;
        let mut file = found.ok_or_else(missing)?;
        let read = move || {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut bytes).map(|_| bytes)
        };
        let bytes = blocking(read).await?.map_err(|_| missing())?;
        let mut response = plain(StatusCode::OK);
        content(
            response.headers_mut(),
            &manifest.media_type,
            &digest,
            bytes.len() as u64,
        );
        if method == Method::GET {
            *response.body_mut() = bytes.into();
        }
        Ok(response)
    }

    /// Content, or from somewhere on: who lost the connection goes on there.
    async fn blob(&self, digest: &Digest, method: &Method, headers: &HeaderMap) -> Result<Response, Status> {
        let missing = || status::not_found(digest.as_str());
        self.registry.fresh().await?;
        let size = self.registry.store.size(&self.repository, digest).ok_or_else(missing)?;
        let found = self.registry.content(&self.repository, digest).await?;
        let file = found.ok_or_else(missing)?;
        let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
        let (from, to, code) = match range.map(|text| part_of(text, size)) {
            None | Some(None) => (0, size, StatusCode::OK),
            Some(Some((from, to))) if from < to => (from, to, StatusCode::PARTIAL_CONTENT),
            Some(Some(_)) => {
                let mut status = Status::bad_request(format!("the content has {size} bytes"));
                status.code = 416;
                return Err(status);
            }
        };
        let mut response = plain(code);
        let headers = response.headers_mut();
        content(headers, OCTETS, digest, to - from);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if code == StatusCode::PARTIAL_CONTENT {
            set(headers, CONTENT_RANGE, &format!("bytes {from}-{}/{size}", to - 1));
        }
        if method == Method::GET {
            let mut file = tokio::fs::File::from_std(file);
            let sought = file.seek(std::io::SeekFrom::Start(from)).await;
            sought.map_err(|_| missing())?;
            let pieces = ReaderStream::with_capacity(file.take(to - from), PIECE);
            *response.body_mut() = Body::stream(pieces.map(|piece| piece.map_err(Into::into)));
        }
        Ok(response)
    }

    /// Begins an upload; one that says its digest is whole.
    async fn begin(&self, request: Request) -> Result<Response, Status> {
        namespace(self.cx).await?;
        let _place = self.registry.place()?;
        let mut upload = Upload::begin(&self.registry.store, self.registry.limits.image).await?;
        if let Some(digest) = asked(&request, "digest") {
            let announced = length(request.headers());
            upload
                .append(&self.registry.store, announced, request.into_body())
                .await?;
            return self.keep(upload, &digest).await;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let pieces = Pieces {
            repository: self.repository.clone(),
            touched: Instant::now(),
            upload: Arc::new(AsyncMutex::new(Some(upload))),
            _place,
        };
        self.registry.uploads.lock().insert(id.clone(), pieces);
        Ok(self.going_on(StatusCode::ACCEPTED, &id, 0))
    }

    async fn arrived(&self, id: &str) -> Result<Response, Status> {
        let upload = self.upload(id)?;
        let length = upload.lock().await.as_ref().map(|upload| upload.length);
        Ok(self.going_on(StatusCode::NO_CONTENT, id, length.ok_or_else(|| unknown(id))?))
    }

    async fn append(&self, id: &str, request: Request) -> Result<Response, Status> {
        let upload = self.upload(id)?;
        let mut upload = upload.lock().await;
        let going = upload.as_mut().ok_or_else(|| unknown(id))?;
        if let Some(begin) = begins(request.headers()).filter(|begin| *begin != going.length) {
            let mut status = Status::bad_request(format!("the upload is at byte {}, not at {begin}", going.length));
            status.code = 416;
            return Err(status);
        }
        let announced = length(request.headers());
        going
            .append(&self.registry.store, announced, request.into_body())
            .await?;
        let length = going.length;
        Ok(self.going_on(StatusCode::ACCEPTED, id, length))
    }

    async fn finish(&self, id: &str, request: Request) -> Result<Response, Status> {
        let digest = asked(&request, "digest").ok_or_else(|| Status::bad_request("the upload's digest is wanted"))?;
        let upload = self.upload(id)?;
        let mut upload = upload.lock().await;
        let going = upload.as_mut().ok_or_else(|| unknown(id))?;
        let announced = length(request.headers());
        going
            .append(&self.registry.store, announced, request.into_body())
            .await?;
        let whole = upload.take().ok_or_else(|| unknown(id))?;
        self.registry.uploads.lock().remove(id);
        self.keep(whole, &digest).await
    }

    async fn keep(&self, upload: Upload, digest: &str) -> Result<Response, Status> {
        let wanted: Digest = digest.parse().map_err(bad)?;
        let (arriving, found, size) = upload.finish();
        if found != wanted {
            return Err(Status::bad_request(format!(
                "the content's digest is {found}, not {wanted}"
            )));
        }
        let (store, repository, of) = (self.registry.store.clone(), self.repository.clone(), found.clone());
        self.registry
            .stored(move || store.take(&repository, arriving, &of, size))
            .await?;
        Ok(self.created(&format!("blobs/{found}"), &found))
    }

    async fn put_manifest(&self, target: Target, request: Request) -> Result<Response, Status> {
        namespace(self.cx).await?;
        let declared = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let declared = declared.unwrap_or_default().to_owned();
        let body = Limited::new(request.into_body(), MAX_DOCUMENT as usize).collect().await;
        let bytes = body.map_err(|error| Status::bad_request(format!("the manifest was not read: {error}")))?;
        let bytes = bytes.to_bytes();
        let artifact = manifest::read(&bytes, &declared).map_err(bad)?;
        let digest = Digest::of(&bytes);
        if let Target::Digest(wanted) = &target
            && *wanted != digest
        {
            return Err(Status::bad_request(format!(
                "the manifest's digest is {digest}, not {wanted}"
            )));
        }
        self.registry.fresh().await?;
        for blob in [&artifact.config, &artifact.layer] {
            match self.registry.store.size(&self.repository, &blob.digest) {
                Some(size) if size == blob.size => {}
                Some(size) => return Err(bad(format!("{} has {size} bytes, not {}", blob.digest, blob.size))),
                None => return Err(bad(format!("{} was not uploaded", blob.digest))),
            }
        }
        let program = self.registry.content(&self.repository, &artifact.layer.digest).await?;
        let program = program.ok_or_else(|| bad(format!("{} was not uploaded", artifact.layer.digest)))?;
        let name = format!("{}{}", self.repository.name, target.suffix());
        let looked = self.registry.look(program, &name, &artifact.title, self.cx.now).await?;
        let (document, size) = self.registry.put(&self.repository, bytes.to_vec()).await?;
        let made = Made {
            repository: &self.repository,
            target: &target,
            document,
            size,
            artifact,
            program: looked.program,
            by: &self.cx.user.username,
            now: self.cx.now,
        };
        self.registry.commit(made).await?;
        Ok(self.created(&format!("manifests/{digest}"), &digest))
    }

    /// The tags, sorted; `n` of them after `last`.
    fn tags(&self, request: &Request) -> Result<Response, Status> {
        let tags = self.registry.store.tags(&self.repository);
        let tags = tags.ok_or_else(|| status::not_found(&self.repository.name))?;
        let last = asked(request, "last").unwrap_or_default();
        let most = asked(request, "n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let later: Vec<String> = tags.into_iter().filter(|tag| *tag > last).collect();
        let page = later.get(..most.min(later.len())).unwrap_or_default();
        let mut response = json_answer(&json!({"name": self.repository.to_string(), "tags": page}));
        if let Some(last) = page.last().filter(|_| page.len() < later.len()) {
            let next = format!("</v2/{}/tags/list?n={most}&last={last}>; rel=\"next\"", self.repository);
            set(response.headers_mut(), http::header::LINK, &next);
        }
        Ok(response)
    }

    /// An upload of this repository.
    fn upload(&self, id: &str) -> Result<Arc<AsyncMutex<Option<Upload>>>, Status> {
        let mut uploads = self.registry.uploads.lock();
        let own = uploads
            .get_mut(id)
            .filter(|pieces| pieces.repository == self.repository);
        let pieces = own.ok_or_else(|| unknown(id))?;
        pieces.touched = Instant::now();
        Ok(pieces.upload.clone())
    }

    fn take(&self, id: &str) -> Result<(), Status> {
        self.upload(id)?;
        self.registry.uploads.lock().remove(id);
        Ok(())
    }

    fn going_on(&self, code: StatusCode, id: &str, length: u64) -> Response {
        let mut response = plain(code);
        let headers = response.headers_mut();
        set(
            headers,
            LOCATION,
            &format!("/v2/{}/blobs/uploads/{id}", self.repository),
        );
        set(headers, UPLOAD_ID, id);
        set(headers, RANGE, &format!("0-{}", length.saturating_sub(1)));
        response
    }

    fn created(&self, what: &str, digest: &Digest) -> Response {
        let mut response = plain(StatusCode::CREATED);
        let headers = response.headers_mut();
        set(headers, LOCATION, &format!("/v2/{}/{what}", self.repository));
        set(headers, CONTENT_DIGEST, digest.as_str());
        response
    }
}

/// Nothing refers to anything here, which clients ask nevertheless.
fn referrers(_of: &Digest) -> Result<Response, Status> {
    let mut response = json_answer(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}));
    set(response.headers_mut(), CONTENT_TYPE, INDEX);
    Ok(response)
}

fn unknown(id: &str) -> Status {
    status::not_found(&format!("upload {id}"))
}

/// The value of a key of the query.
fn asked(request: &Request, key: &str) -> Option<String> {
    let query = request.uri().query()?;
    let (_, value) = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(k, _)| *k == key)?;
    Some(decoded(value))
}

/// Where a piece of an upload begins, if it says: `FROM-TO`, with or without a unit.
fn begins(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim_start_matches("bytes ");
    text.split_once('-')?.0.trim().parse().ok()
}

/// The first and the one after the last byte of `bytes=FROM-` and `bytes=FROM-TO`; `None` for what is not understood, which
/// is answered with everything.
fn part_of(range: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let to = match to {
        "" => size,
        to => to.parse::<u64>().ok()?.saturating_add(1).min(size),
    };
    Some((from, to))
}

fn plain(code: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    let version = HeaderName::from_static("docker-distribution-api-version");
    set(response.headers_mut(), version, "registry/2.0");
    response
}

fn json_answer(value: &serde_json::Value) -> Response {
    let mut response = plain(StatusCode::OK);
    set(response.headers_mut(), CONTENT_TYPE, "application/json");
    *response.body_mut() = value.to_string().into_bytes().into();
    response
}

fn content(headers: &mut HeaderMap, media_type: &str, digest: &Digest, size: u64) {
    set(headers, CONTENT_TYPE, media_type);
    set(headers, CONTENT_DIGEST, digest.as_str());
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
}

/// Sets a header that is made of what has been checked.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_go_on_where_somebody_stopped() {
        assert_eq!(part_of("bytes=5-", 10), Some((5, 10)));
        assert_eq!(part_of("bytes=5-6", 10), Some((5, 7)));
        assert_eq!(part_of("bytes=5-99", 10), Some((5, 10)));
        assert_eq!(part_of("bytes=10-", 10), Some((10, 10)), "nothing is left");
        assert_eq!(part_of("bytes=-5", 10), None);
        assert_eq!(part_of("lines=1-2", 10), None);
    }
}
