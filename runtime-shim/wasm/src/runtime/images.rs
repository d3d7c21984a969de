//! Images and their code, as the runtime interface asks for them.

use std::{fs::File, sync::Arc};

use cri::{
    ContainerConfig, ContainerId, Error, Event, FilesystemUsage, Image, ImportContent, Imported, PullImage,
    PulledImage, WasmProgram,
};

use super::{
    Runtime,
    errors::{from_code, from_reference},
    hosts::Host,
    pulls::Failure,
};
use crate::{
    aot::{Code, Target},
    images::{Content, Entry, ImportError, InUse, Reference, usage},
    spawn::compiler::{Compiler, CompilerError},
};

impl Runtime {
    pub(super) fn find_image(&self, reference: &str) -> Result<Option<Image>, Error> {
        let found = self
            .images
            .find(reference)
            .map_err(|error| from_reference(reference, error))?;
        Ok(found.map(|entry| self.images.describe(&entry)))
    }

    pub(super) async fn pull(&self, pull: PullImage) -> Result<PulledImage, Error> {
        let reference = pull.reference.clone();
        let name: Reference = reference.parse().map_err(|error| from_reference(&reference, error))?;
        let full = name.to_string();
        match self.pulls.pull(name, pull).await {
            Ok(pulled) => Ok(PulledImage {
                image: self.images.describe(&pulled.entry),
                took: pulled.took,
            }),
            Err(Failure::Pull { reason }) => Err(Error::ImagePull {
                reference: full,
                reason,
            }),
            Err(Failure::ContainerImage { reason }) => Err(container_image(&full, &reason)),
        }
    }

    /// The Wasm binary of an image, for whoever wants to look into it.
    pub(super) fn program_of(&self, reference: &str) -> Result<File, Error> {
        let found = self
            .images
            .find(reference)
            .map_err(|error| from_reference(reference, error))?;
        let entry = found.ok_or_else(|| Error::NotFound {
            what: "image",
            id: reference.to_owned(),
        })?;
        let opened = self.images.open_module(&entry.module);
        opened.map_err(|error| Error::failed(format!("opening image \"{reference}\""), error))
    }

    pub(super) async fn import(&self, name: &str, content: ImportContent) -> Result<Imported, Error> {
        let reference: Reference = name.parse().map_err(|error| from_reference(name, error))?;
        let content = match content {
            ImportContent::File(path) => Content::File(path),
            ImportContent::Bytes(bytes) => Content::Bytes(bytes),
        };
        let images = Arc::clone(&self.images);
        let work = self
            .shared
            .tasks
            .spawn_blocking(move || images.import(&reference, content));
        let imported = work
            .await
            .map_err(|error| Error::failed(format!("importing image \"{name}\""), error))?;
        let entry = imported.map_err(|error| refused_import(name, error))?;
        // It is stored all the same: the runtime of tomorrow may run it.
        let ready = self.code(&entry, name, &self.shared.target, || Ok(self.compiler.clone()));
        let warning = ready.await.err().map(|error| error.chain());
        if let Some(warning) = &warning {
            tracing::warn!(image = name, warning, "the image cannot run");
        }
        Ok(Imported {
            image: self.images.describe(&entry),
            warning,
        })
    }

    pub(super) async fn remove_by_reference(&self, reference: &str) -> Result<(), Error> {
        let found = self
            .images
            .find(reference)
            .map_err(|error| from_reference(reference, error))?;
        let Some(entry) = found else { return Ok(()) };
        let failed = || format!("removing image \"{reference}\"");
        if let Some(container) = self.user_of(&entry) {
            return Err(Error::failed(failed(), InUse { container }));
        }
        let images = Arc::clone(&self.images);
        let work = self.shared.tasks.spawn_blocking(move || images.remove(&entry));
        work.await
            .map_err(|error| Error::failed(failed(), error))?
            .map_err(|error| Error::failed(failed(), error))?;
        self.evict_code().map_err(|error| Error::failed(failed(), error))
    }

    /// A container that was made of the image and can still run.
    fn user_of(&self, entry: &Entry) -> Option<String> {
        let model = self.shared.model.lock();
        let mut users = model
            .containers()
            .filter(|container| container.state < cri::ContainerState::Exited);
        users
            .find(|user| user.config.image_id == entry.id.as_str())
            .map(|user| user.id.to_string())
    }

    pub(super) async fn usage(&self) -> Result<FilesystemUsage, Error> {
        let directories = ["images", "aot"].map(|name| self.shared.config.data_dir.join(name));
        let work = self.shared.tasks.spawn_blocking(move || {
            directories
                .iter()
                .map(|directory| usage(directory))
                .collect::<Result<Vec<_>, _>>()
        });
        let failed = || "measuring the image store";
        let parts = work.await.map_err(|error| Error::failed(failed(), error))?;
        let parts = parts.map_err(|error| Error::failed(failed(), error))?;
        Ok(FilesystemUsage {
            used_bytes: parts.iter().map(|part| part.used_bytes).sum(),
            inodes_used: parts.iter().map(|part| part.inodes_used).sum(),
        })
    }

    /// The image a container is made of.
    pub(super) fn image_of(&self, config: &ContainerConfig) -> Result<Entry, Error> {
        let wanted = if config.image_id.is_empty() {
            &config.image
        } else {
            &config.image_id
        };
        let found = self
            .images
            .find(wanted)
            .map_err(|error| from_reference(wanted, error))?;
        found.ok_or_else(|| Error::NotFound {
            what: "image",
            id: wanted.clone(),
        })
    }

    /// The code of an image for a host. One of an earlier version gets it from its own compiler.
    pub(super) async fn code_for(&self, image: &Entry, reference: &str, host: &Arc<Host>) -> Result<Code, Error> {
        let target = host.target();
        let compiler = || match target == self.shared.target {
            true => Ok(self.compiler.clone()),
            false => Ok(Compiler(host.program(self.compiler.0.words().to_vec())?)),
        };
        self.code(image, reference, &target, compiler).await
    }

    async fn code(
        &self,
        image: &Entry,
        reference: &str,
        target: &Target,
        compiler: impl FnOnce() -> Result<Compiler, CompilerError>,
    ) -> Result<Code, Error> {
        let job = || -> Result<(Compiler, File), CompilerError> {
            let binary = self.images.open_module(&image.module).map_err(CompilerError::Binary)?;
            Ok((compiler()?, binary))
        };
        let told = |seconds| {
            let message = progress(reference, seconds);
            self.shared.tell(Event::Image {
                reference: reference.to_owned(),
                message,
            });
        };
        self.code
            .code(&image.module, target, job, told)
            .await
            .map_err(|error| from_code(reference, error))
    }

    /// What the program of a container says of itself.
    pub(super) fn program_of_container(&self, id: &ContainerId) -> Result<Option<WasmProgram>, Error> {
        let key = self.shared.model.lock().container(id).map(|held| held.record.code_key);
        let key = key.ok_or_else(|| Error::NotFound {
            what: "container",
            id: id.to_string(),
        })?;
        let known = self.code.program(&key);
        known.map_err(|error| {
            Error::failed(
                format!("reading what is known of the program of container \"{id}\""),
                error,
            )
        })
    }

    /// Removes code that no image needs or no host can load.
    pub(super) fn evict_code(&self) -> std::io::Result<()> {
        let mut targets: Vec<_> = self.hosts.all().iter().map(|host| host.target()).collect();
        targets.push(self.shared.target.clone());
        let evicted = self
            .code
            .evict(|module, target| self.images.runs(module) && targets.contains(target))?;
        if evicted > 0 {
            tracing::info!(evicted, "compiled code removed that nothing needs");
        }
        Ok(())
    }
}

/// What people who wait for an image's code hear.
fn progress(reference: &str, seconds: u64) -> String {
    match seconds {
        0..10 => format!("Compiling image \"{reference}\" to machine code; this is done once"),
        _ => format!("Still compiling image \"{reference}\" to machine code after {seconds}s"),
    }
}

fn refused_import(name: &str, error: ImportError) -> Error {
    match error {
        ImportError::ContainerImage(why) => container_image(name, &why.to_string()),
        error => Error::failed(format!("importing image \"{name}\""), error),
    }
}

fn container_image(name: &str, why: &str) -> Error {
    Error::Unsupported {
        what: "an OCI container image",
        reason: format!("image \"{name}\" holds no Wasm program: {why}"),
    }
}
