//! What the driver does on its node.

use std::{fs, io, path::Path};

use csi::v1::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse,
    NodeGetInfoRequest, NodeGetInfoResponse, NodePublishVolumeRequest, NodePublishVolumeResponse,
    NodeServiceCapability, NodeStageVolumeRequest, NodeStageVolumeResponse, NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, Topology,
    node_server::Node,
    node_service_capability::{Rpc, Type, rpc},
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tonic::{Request, Response, Status};

use crate::Driver;

/// What the driver calls every node it is on.
pub const NODE_ID: &str = "test-node";

const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

#[tonic::async_trait]
impl Node for Driver {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called("NodeStageVolume", &request.volume_id).await?;
        let from = self.volume(&request.volume_id);
        if !from.is_dir() {
            return Err(Status::not_found(format!(
                "volume {} does not exist",
                request.volume_id
            )));
        }
        if self.options.attaches && !request.publish_context.contains_key("device") {
            return Err(Status::invalid_argument("the volume is not attached"));
        }
        bind(&from, Path::new(&request.staging_target_path), false).map_err(internal)?;
        self.state().staged.insert(request.volume_id.clone(), request);
        Ok(Response::new(NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called("NodeUnstageVolume", &request.volume_id).await?;
        unbind(Path::new(&request.staging_target_path)).map_err(internal)?;
        self.state().staged.remove(&request.volume_id);
        Ok(Response::new(NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called("NodePublishVolume", &request.volume_id).await?;
        let ephemeral = request.volume_context.get(EPHEMERAL).is_some_and(|is| is == "true");
        let from = match (ephemeral, self.options.stages) {
            (true, _) => self.make(&request.volume_id),
            (false, false) => self.volume(&request.volume_id),
            (false, true) => {
                let staged = Path::new(&request.staging_target_path).to_owned();
                if !is_mounted(&staged) {
                    return Err(Status::failed_precondition("the volume is not staged"));
                }
                staged
            }
        };
        if !from.is_dir() {
            return Err(Status::not_found(format!(
                "volume {} does not exist",
                request.volume_id
            )));
        }
        bind(&from, Path::new(&request.target_path), request.readonly).map_err(internal)?;
        self.state().published.insert(request.volume_id.clone(), request);
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called("NodeUnpublishVolume", &request.volume_id).await?;
        let target = Path::new(&request.target_path);
        unbind(target).map_err(internal)?;
        match fs::remove_dir(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(internal(error)),
            _ => {}
        }
        let published = self.state().published.remove(&request.volume_id);
        let context = published.map(|published| published.volume_context).unwrap_or_default();
        if context.get(EPHEMERAL).is_some_and(|is| is == "true") {
            fs::remove_dir_all(self.volume(&request.volume_id)).map_err(internal)?;
        }
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called("NodeExpandVolume", &request.volume_id).await?;
        if !is_mounted(Path::new(&request.volume_path)) {
            return Err(Status::failed_precondition("the volume is not published"));
        }
        let bytes = request.capacity_range.unwrap_or_default().required_bytes;
        self.state().sizes.entry(request.volume_id).or_default().1 = bytes;
        Ok(Response::new(NodeExpandVolumeResponse { capacity_bytes: bytes }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let kinds = [
            (self.options.stages, rpc::Type::StageUnstageVolume),
            (self.options.takes_groups, rpc::Type::VolumeMountGroup),
            (self.options.expands, rpc::Type::ExpandVolume),
            (true, rpc::Type::SingleNodeMultiWriter),
        ];
        let kinds = kinds.into_iter().filter(|(can, _)| *can);
        let capabilities = kinds.map(|(_, kind)| NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })),
        });
        Ok(Response::new(NodeGetCapabilitiesResponse {
            capabilities: capabilities.collect(),
        }))
    }

    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Result<Response<NodeGetInfoResponse>, Status> {
        self.called("NodeGetInfo", "").await?;
        let segments = self.options.topology.clone();
        Ok(Response::new(NodeGetInfoResponse {
            node_id: NODE_ID.into(),
            max_volumes_per_node: 16,
            accessible_topology: (!segments.is_empty()).then_some(Topology { segments }),
        }))
    }
}

pub(crate) fn internal(error: io::Error) -> Status {
    Status::internal(error.to_string())
}

/// Whether something is mounted at the path: a directory of another mount than the one above it.
fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = path.display().to_string();
    table.lines().any(|line| line.split(' ').nth(4) == Some(&*path))
}

fn bind(from: &Path, to: &Path, read_only: bool) -> io::Result<()> {
    if is_mounted(to) {
        return Ok(());
    }
    fs::create_dir_all(to)?;
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, to, None::<&str>, flags, None::<&str>)?;
    }
    Ok(())
}

fn unbind(path: &Path) -> io::Result<()> {
    if is_mounted(path) {
        umount2(path, MntFlags::empty())?;
    }
    Ok(())
}
