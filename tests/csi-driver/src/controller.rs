//! What the driver does for the whole cluster, and who it is.

use std::{fs, io};

use csi::v1::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, ControllerPublishVolumeRequest, ControllerPublishVolumeResponse,
    ControllerServiceCapability, ControllerUnpublishVolumeRequest, ControllerUnpublishVolumeResponse,
    CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest, DeleteVolumeResponse, GetPluginCapabilitiesRequest,
    GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse, PluginCapability, ProbeRequest,
    ProbeResponse, Topology, Volume,
    controller_server::Controller,
    controller_service_capability::{Rpc, Type, rpc},
    identity_server::Identity,
    plugin_capability::{self, Service, service},
};
use tonic::{Request, Response, Status};

use crate::{Driver, node::internal};

#[tonic::async_trait]
impl Identity for Driver {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: self.options.name.clone(),
            vendor_version: "1".into(),
            ..GetPluginInfoResponse::default()
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let constrained = !self.options.topology.is_empty();
        let kinds = [
            (true, service::Type::ControllerService),
            (constrained, service::Type::VolumeAccessibilityConstraints),
        ];
        let kinds = kinds.into_iter().filter(|(has, _)| *has);
        let capabilities = kinds.map(|(_, kind)| PluginCapability {
            r#type: Some(plugin_capability::Type::Service(Service { r#type: kind.into() })),
        });
        Ok(Response::new(GetPluginCapabilitiesResponse {
            capabilities: capabilities.collect(),
        }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}

#[tonic::async_trait]
impl Controller for Driver {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called("CreateVolume", &request.name).await?;
        if request.name.is_empty() || request.volume_capabilities.is_empty() {
            return Err(Status::invalid_argument("a volume needs a name and capabilities"));
        }
        let id = format!("vol-{}", request.name);
        self.make(&id);
        let range = request.capacity_range.unwrap_or_default();
        let segments = self.options.topology.clone();
        Ok(Response::new(CreateVolumeResponse {
            volume: Some(Volume {
                capacity_bytes: range.required_bytes,
                volume_id: id,
                volume_context: request.parameters,
                accessible_topology: match segments.is_empty() {
                    true => Vec::new(),
                    false => vec![Topology { segments }],
                },
                ..Volume::default()
            }),
        }))
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called("DeleteVolume", &request.volume_id).await?;
        if self.state().staged.contains_key(&request.volume_id) {
            return Err(Status::failed_precondition("the volume is in use"));
        }
        match fs::remove_dir_all(self.volume(&request.volume_id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(internal(error)),
            _ => Ok(Response::new(DeleteVolumeResponse {})),
        }
    }

    async fn controller_publish_volume(
        &self,
        request: Request<ControllerPublishVolumeRequest>,
    ) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called("ControllerPublishVolume", &request.volume_id).await?;
        self.state().attached.insert(request.volume_id.clone(), request.node_id);
        let context = [("device".to_owned(), format!("/dev/{}", request.volume_id))];
        Ok(Response::new(ControllerPublishVolumeResponse {
            publish_context: context.into(),
        }))
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called("ControllerUnpublishVolume", &request.volume_id).await?;
        if self.state().staged.contains_key(&request.volume_id) {
            return Err(Status::failed_precondition("the volume is staged on the node"));
        }
        self.state().attached.remove(&request.volume_id);
        Ok(Response::new(ControllerUnpublishVolumeResponse {}))
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let kinds = [
            (true, rpc::Type::CreateDeleteVolume),
            (self.options.attaches, rpc::Type::PublishUnpublishVolume),
            (self.options.expands, rpc::Type::ExpandVolume),
        ];
        let kinds = kinds.into_iter().filter(|(can, _)| *can);
        let capabilities = kinds.map(|(_, kind)| ControllerServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })),
        });
        Ok(Response::new(ControllerGetCapabilitiesResponse {
            capabilities: capabilities.collect(),
        }))
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called("ControllerExpandVolume", &request.volume_id).await?;
        let bytes = request.capacity_range.unwrap_or_default().required_bytes;
        self.state().sizes.entry(request.volume_id).or_default().0 = bytes;
        Ok(Response::new(ControllerExpandVolumeResponse {
            capacity_bytes: bytes,
            node_expansion_required: true,
        }))
    }
}
