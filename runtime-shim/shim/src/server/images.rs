//! CRI's ImageService.

use std::pin::Pin;

use cri::{Error, Image};
use futures::{Stream, StreamExt};
use proto::v1::{self, image_service_server::ImageService};
use tonic::{Request, Response, Status};

use super::{
    Service, failed,
    find::{self, Found},
    info, now, pages,
};

impl Service {
    /// The image that a reference, an id or the beginning of an id names.
    pub(super) async fn image(&self, given: &str) -> Result<Option<Image>, Status> {
        match self.runtime.image(given).await {
            Ok(Some(image)) => return Ok(Some(image)),
            // Such as an id without its `sha256:`.
            Ok(None) | Err(Error::InvalidImageName { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        let images = self.runtime.list_images().await.map_err(failed)?;
        match find::image_id(&images, given) {
            Found::One(id) => Ok(images.into_iter().find(|image| image.id == id)),
            Found::None => Ok(None),
            Found::Several => Err(Status::invalid_argument(format!(
                "several images begin with \"{given}\""
            ))),
        }
    }

    async fn list(&self, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>, Status> {
        let wanted = filter.and_then(|filter| filter.image).unwrap_or_default().image;
        let images = match wanted.is_empty() {
            true => self.runtime.list_images().await.map_err(failed)?,
            false => self.image(&wanted).await?.into_iter().collect(),
        };
        Ok(images.into_iter().map(Into::into).collect())
    }
}

/// The name in a request.
fn named(spec: Option<v1::ImageSpec>) -> Result<String, Status> {
    spec.map(|spec| spec.image)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Status::invalid_argument("no image is named"))
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let images = self.list(request.into_inner().filter).await?;
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    type StreamImagesStream = Pin<Box<dyn Stream<Item = Result<v1::StreamImagesResponse, Status>> + Send>>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let images = self.list(request.into_inner().filter).await?;
        let pages = pages::stream(images, |images| v1::StreamImagesResponse { images });
        Ok(Response::new(pages.boxed()))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let image = self.image(&named(request.image)?).await?;
        let verbose = image.as_ref().filter(|_| request.verbose);
        Ok(Response::new(v1::ImageStatusResponse {
            info: verbose.map(info::image).unwrap_or_default(),
            image: image.map(Into::into),
        }))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        let request = request.into_inner();
        named(request.image.clone())?;
        let pulled = self.runtime.pull_image(request.try_into().map_err(failed)?).await;
        let image_ref = pulled.map_err(failed)?.image.id;
        Ok(Response::new(v1::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        if let Some(image) = self.image(&named(request.into_inner().image)?).await? {
            self.runtime.remove_image(&image.id).await.map_err(failed)?;
        }
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    /// What containers write lies where the images do.
    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        let filesystems = self.runtime.image_filesystems().await.map_err(failed)?;
        let at = now();
        let told: Vec<v1::FilesystemUsage> = filesystems
            .into_iter()
            .map(v1::FilesystemUsage::from)
            .map(|usage| v1::FilesystemUsage {
                timestamp: if usage.timestamp > 0 { usage.timestamp } else { at },
                ..usage
            })
            .collect();
        Ok(Response::new(v1::ImageFsInfoResponse {
            container_filesystems: told.clone(),
            image_filesystems: told,
        }))
    }
}
