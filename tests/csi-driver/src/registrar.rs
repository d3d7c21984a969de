//! How the driver makes itself known: what node-driver-registrar does for others.

use csi::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse, registration_server::Registration,
};
use tonic::{Request, Response, Status};

use crate::Driver;

pub(crate) struct Registrar {
    pub(crate) driver: Driver,
    pub(crate) endpoint: String,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        self.driver.called("GetInfo", "").await?;
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".into(),
            name: self.driver.options.name.clone(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec!["1.0.0".into()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus {
            plugin_registered,
            error,
        } = request.into_inner();
        self.driver.state().registered = Some(if plugin_registered { Ok(()) } else { Err(error) });
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
