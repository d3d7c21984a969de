//! The images of the node, as commands on the same machine bring, list, look into and remove them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json,
    body::Body,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use cri::ImportContent;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::{Socket, failed};

/// Which image.
#[derive(Deserialize)]
pub(super) struct Named {
    name: String,
}

/// Which images; without a name all.
#[derive(Deserialize)]
pub(super) struct Wanted {
    name: Option<String>,
}

/// Takes an image: the body goes to a file, which the runtime imports.
pub(super) async fn import(State(socket): State<Arc<Socket>>, Query(named): Query<Named>, body: Body) -> Response {
    let file = match receive(&socket.data_dir, body).await {
        Ok(file) => file,
        Err(error) => {
            return failed(
                StatusCode::INSUFFICIENT_STORAGE,
                format!("cannot receive the image: {error}"),
            );
        }
    };
    let imported = socket
        .runtime
        .import_image(&named.name, ImportContent::File(file.0.clone()))
        .await;
    match imported {
        Ok(imported) => {
            let (image, warning) = (imported.image, imported.warning);
            Json(json!({"id": image.id, "size": image.size, "warning": warning})).into_response()
        }
        Err(error) => refused(&error),
    }
}

/// A file that goes when it is dropped.
struct Received(PathBuf);

impl Drop for Received {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // what is left of it is removed by the next start
    }
}

async fn receive(data_dir: &Path, body: Body) -> io::Result<Received> {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let received = Received(data_dir.join(format!("import-{number}.part")));
    let mut file = tokio::fs::File::create(&received.0).await?;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        file.write_all(&chunk.map_err(io::Error::other)?).await?;
    }
    file.flush().await?;
    Ok(received)
}

/// Lists images.
pub(super) async fn list(State(socket): State<Arc<Socket>>, Query(wanted): Query<Wanted>) -> Response {
    let images = match &wanted.name {
        Some(name) => socket
            .runtime
            .image(name)
            .await
            .map(|found| found.into_iter().collect()),
        None => socket.runtime.list_images().await,
    };
    match images {
        Ok(images) => Json(json!({"images": images})).into_response(),
        Err(error) => refused(&error),
    }
}

/// Removes an image with all its names.
pub(super) async fn remove(State(socket): State<Arc<Socket>>, Query(named): Query<Named>) -> Response {
    let removed = async {
        let found = socket.runtime.image(&named.name).await?;
        let image = found.ok_or_else(|| absent(&named.name))?;
        socket.runtime.remove_image(&image.id).await?;
        Ok(image)
    };
    match removed.await {
        Ok(image) => Json(json!({"images": [image]})).into_response(),
        Err(error) => refused(&error),
    }
}

/// Hands out the program of an image, to be looked into elsewhere: the agent does not.
pub(super) async fn program(State(socket): State<Arc<Socket>>, Query(named): Query<Named>) -> Response {
    match socket.runtime.image_program(&named.name).await {
        Ok(file) => Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file))).into_response(),
        Err(error) => refused(&error),
    }
}

fn absent(name: &str) -> cri::Error {
    cri::Error::NotFound {
        what: "image",
        id: name.to_owned(),
    }
}

fn refused(error: &cri::Error) -> Response {
    let code = match error {
        cri::Error::NotFound { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    failed(code, error.chain())
}
