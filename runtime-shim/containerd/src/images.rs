//! Images: those of containerd, which are the machine's and not ours alone.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use cri::{Error, Image, ImportContent, Imported, PullImage, PulledImage};
use proto::{Attempt, v1};

use crate::{
    import,
    link::{Link, PATIENCE},
    records::OWNER,
    runtime::Shared,
    status,
};

/// A pull may take as long as it progresses, which containerd sees to.
const PULL: Duration = Duration::from_secs(24 * 3600);
/// Until CRI has heard of an image that was imported.
const HEARS: Duration = Duration::from_secs(20);
const HEARS_LOOK: Duration = Duration::from_millis(20);

fn attempt<'a>(doing: &'static str, reference: &'a str) -> Attempt<'a> {
    Attempt {
        doing,
        what: "image",
        id: reference,
        patience: PATIENCE,
    }
}

fn spec(reference: &str) -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec {
        image: reference.to_owned(),
        ..v1::ImageSpec::default()
    })
}

/// All images. Those of which others have containers are not ours to remove, and the one of sandboxes nobody names: without
/// it no pod starts any more.
pub(crate) async fn list(shared: &Shared) -> Result<Vec<Image>, Error> {
    let link = &shared.link;
    let listed = link.read(attempt("listing", ""), async {
        link.images().list_images(v1::ListImagesRequest::default()).await
    });
    let listed = listed.await?.images;
    let others = used_by_others(shared).await?;
    let sandboxes = match status::sandbox_image(link).await? {
        Some(reference) => find(link, &reference).await?.map(|image| image.id),
        None => None,
    };
    Ok(listed
        .into_iter()
        .map(Image::from)
        .map(|image| Image {
            pinned: image.pinned || others.contains(&image.id) || sandboxes.as_ref() == Some(&image.id),
            ..image
        })
        .collect())
}

async fn used_by_others(shared: &Shared) -> Result<BTreeSet<String>, Error> {
    let all = shared.listing.list_containers(&shared.link, Default::default()).await?;
    let others = all
        .into_iter()
        .filter(|container| container.labels.get(OWNER).is_none_or(|owner| owner != shared.owner()));
    Ok(others.map(|container| container.image_ref).collect())
}

/// The image that a reference or an id names.
pub(crate) async fn find(link: &Link, reference: &str) -> Result<Option<Image>, Error> {
    let request = v1::ImageStatusRequest {
        image: spec(reference),
        verbose: false,
    };
    let found = link.read(attempt("looking for", reference), async {
        link.images().image_status(request).await
    });
    match found.await {
        Ok(answer) => Ok(answer.image.map(Image::from)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pulls an image.
pub(crate) async fn pull(link: &Link, pull: PullImage) -> Result<PulledImage, Error> {
    let reference = pull.reference.clone();
    let refused = |reason: String| Error::ImagePull {
        reference: reference.clone(),
        reason,
    };
    let begun = Instant::now();
    let request: v1::PullImageRequest = pull.into();
    let attempt = Attempt {
        patience: PULL,
        ..attempt("pulling", &reference)
    };
    let pulled = link.call(attempt, Box::pin(async { link.images().pull_image(request).await }));
    let pulled = match pulled.await {
        Ok(pulled) => pulled,
        Err(error @ (Error::Timeout { .. } | Error::ImagePull { .. })) => return Err(error),
        Err(Error::NotFound { .. }) => return Err(refused("not found".to_owned())),
        Err(Error::InvalidConfig { message }) => return Err(refused(message)),
        Err(error) => return Err(refused(source(&error))),
    };
    let image = find(link, &pulled.image_ref).await?;
    Ok(PulledImage {
        image: image.ok_or_else(|| refused("it went again at once".to_owned()))?,
        took: begun.elapsed(),
    })
}

fn source(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Imports an image, and waits until CRI knows it.
pub(crate) async fn import(link: &Link, name: &str, content: ImportContent) -> Result<Imported, Error> {
    let full = import::import(link, name, content).await?;
    let begun = Instant::now();
    loop {
        if let Some(image) = find(link, &full).await? {
            return Ok(Imported { image, warning: None });
        }
        if begun.elapsed() > HEARS {
            return Err(Error::Timeout {
                what: "containerd's CRI taking up the image",
                after: HEARS,
            });
        }
        tokio::time::sleep(HEARS_LOOK).await;
    }
}

/// Removes an image with all its names.
pub(crate) async fn remove(link: &Link, reference: &str) -> Result<(), Error> {
    let request = v1::RemoveImageRequest { image: spec(reference) };
    let removed = link.call(attempt("removing", reference), async {
        link.images().remove_image(request).await
    });
    match removed.await {
        Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The filesystems that images are on.
pub(crate) async fn filesystems(link: &Link) -> Result<Vec<cri::Filesystem>, Error> {
    let told = link.read(attempt("asking for the usage of", ""), async {
        link.images().image_fs_info(v1::ImageFsInfoRequest::default()).await
    });
    Ok(told.await?.image_filesystems.into_iter().map(Into::into).collect())
}
