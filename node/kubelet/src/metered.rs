//! The runtime with a clock: how often each of its operations was asked for, how long it took, and how often it failed,
//! under the kubelet's own names (`kubelet_runtime_operations_*`, Kubernetes documentation, "Kubernetes Metrics Reference").

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use cri::*;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

use crate::Metrics;

/// Names an operation as the kubelet does.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    operation_type: &'static str,
}

/// What was counted of a runtime.
pub(crate) struct Operations {
    asked: Family<Operation, Counter>,
    failed: Family<Operation, Counter>,
    took: Family<Operation, Histogram, fn() -> Histogram>,
    registry: Mutex<Registry>,
}

/// The kubelet's buckets, seconds: from 5 ms on, each two and a half times the one before.
fn buckets() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
        0.005, 2.5, 14,
    ))
}

impl Operations {
    fn new() -> Self {
        let mut registry = Registry::default();
        let (asked, failed) = (Family::default(), Family::default());
        let took: Family<Operation, Histogram, fn() -> Histogram> = Family::new_with_constructor(buckets);
        let name = |what: &str| format!("kubelet_runtime_operations{what}");
        let help = "Cumulative number of runtime operations by operation type";
        registry.register(name(""), help, Family::clone(&asked));
        let help = "Cumulative number of runtime operation errors by operation type";
        registry.register(name("_errors"), help, Family::clone(&failed));
        let help = "Duration in seconds of runtime operations, by operation type";
        registry.register(name("_duration_seconds"), help, took.clone());
        Self {
            asked,
            failed,
            took,
            registry: Mutex::new(registry),
        }
    }

    async fn time<T>(
        &self,
        operation_type: &'static str,
        doing: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let (operation, start) = (Operation { operation_type }, Instant::now());
        self.asked.get_or_create(&operation).inc();
        let done = doing.await;
        self.took
            .get_or_create(&operation)
            .observe(start.elapsed().as_secs_f64());
        if done.is_err() {
            self.failed.get_or_create(&operation).inc();
        }
        done
    }
}

#[async_trait]
impl Metrics for Operations {
    async fn text(&self) -> String {
        let mut text = String::new();
        let _ = encode(&mut text, &self.registry.lock()); // a String takes all
        api::text::prometheus(&text)
    }
}

/// The same runtime with its operations counted, and where the counts are.
pub(crate) fn metered(runtime: SharedRuntime) -> (SharedRuntime, Arc<Operations>) {
    let operations = Arc::new(Operations::new());
    let metered = Metered {
        runtime,
        operations: operations.clone(),
    };
    (Arc::new(metered), operations)
}

struct Metered {
    runtime: SharedRuntime,
    operations: Arc<Operations>,
}

#[async_trait]
impl Runtime for Metered {
    fn version(&self) -> Version {
        self.runtime.version()
    }

    async fn status(&self) -> Vec<Condition> {
        let asked = async { Ok(self.runtime.status().await) };
        self.operations.time("status", asked).await.unwrap_or_default()
    }

    async fn features(&self) -> Features {
        self.runtime.features().await
    }

    async fn update_config(&self, config: RuntimeConfig) -> Result<(), Error> {
        let doing = self.runtime.update_config(config);
        self.operations.time("update_runtime_config", doing).await
    }

    async fn run_sandbox(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error> {
        let doing = self.runtime.run_sandbox(config, handler);
        self.operations.time("run_podsandbox", doing).await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let doing = self.runtime.stop_sandbox(id);
        self.operations.time("stop_podsandbox", doing).await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let doing = self.runtime.remove_sandbox(id);
        self.operations.time("remove_podsandbox", doing).await
    }

    async fn update_sandbox_resources(&self, id: &SandboxId, sum: Resources, overhead: Resources) -> Result<(), Error> {
        let doing = self.runtime.update_sandbox_resources(id, sum, overhead);
        self.operations.time("update_podsandbox_resources", doing).await
    }

    async fn list_sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        let doing = self.runtime.list_sandboxes();
        self.operations.time("list_podsandbox", doing).await
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<Option<Sandbox>, Error> {
        let doing = self.runtime.sandbox(id);
        self.operations.time("podsandbox_status", doing).await
    }

    async fn create_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId, Error> {
        let doing = self.runtime.create_container(sandbox, config);
        self.operations.time("create_container", doing).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        let doing = self.runtime.start_container(id);
        self.operations.time("start_container", doing).await
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let doing = self.runtime.stop_container(id, grace);
        self.operations.time("stop_container", doing).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        let doing = self.runtime.remove_container(id);
        self.operations.time("remove_container", doing).await
    }

    async fn list_containers(&self) -> Result<Vec<Container>, Error> {
        let doing = self.runtime.list_containers();
        self.operations.time("list_containers", doing).await
    }

    async fn container(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        let doing = self.runtime.container(id);
        self.operations.time("container_status", doing).await
    }

    async fn containers_of(&self, sandbox: &SandboxId) -> Result<Vec<Container>, Error> {
        let doing = self.runtime.containers_of(sandbox);
        self.operations.time("list_containers", doing).await
    }

    async fn reopen_container_log(&self, id: &ContainerId) -> Result<(), Error> {
        let doing = self.runtime.reopen_container_log(id);
        self.operations.time("reopen_container_log", doing).await
    }

    async fn update_container_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), Error> {
        let doing = self.runtime.update_container_resources(id, resources);
        self.operations.time("update_container", doing).await
    }

    async fn update_linux_resources(
        &self,
        id: &ContainerId,
        resources: Resources,
        linux: LinuxResources,
    ) -> Result<(), Error> {
        let doing = self.runtime.update_linux_resources(id, resources, linux);
        self.operations.time("update_container", doing).await
    }

    async fn exec_sync(&self, id: &ContainerId, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, Error> {
        let doing = self.runtime.exec_sync(id, command, timeout);
        self.operations.time("exec_sync", doing).await
    }

    async fn exec(&self, id: &ContainerId, request: ExecRequest) -> Result<Session, Error> {
        let doing = self.runtime.exec(id, request);
        self.operations.time("exec", doing).await
    }

    async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<Session, Error> {
        let doing = self.runtime.attach(id, streams);
        self.operations.time("attach", doing).await
    }

    async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<Connection, Error> {
        let doing = self.runtime.port_forward(id, port);
        self.operations.time("port_forward", doing).await
    }

    fn events(&self) -> BoxStream<'static, Event> {
        self.runtime.events()
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, Error> {
        self.operations.time("list_container_stats", self.runtime.stats()).await
    }

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>, Error> {
        let doing = self.runtime.sandbox_stats();
        self.operations.time("list_podsandbox_stats", doing).await
    }

    async fn accounting(&self) -> Result<Vec<Accounting>, Error> {
        let doing = self.runtime.accounting();
        self.operations.time("list_pod_sandbox_metrics", doing).await
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        self.operations.time("list_images", self.runtime.list_images()).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        self.operations
            .time("image_status", self.runtime.image(reference))
            .await
    }

    async fn pull_image(&self, pull: PullImage) -> Result<PulledImage, Error> {
        self.operations.time("pull_image", self.runtime.pull_image(pull)).await
    }

    async fn import_image(&self, name: &str, content: ImportContent) -> Result<Imported, Error> {
        self.runtime.import_image(name, content).await
    }

    async fn image_program(&self, reference: &str) -> Result<std::fs::File, Error> {
        self.runtime.image_program(reference).await
    }

    async fn wasm_program(&self, id: &ContainerId) -> Result<Option<WasmProgram>, Error> {
        self.runtime.wasm_program(id).await
    }

    async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        let doing = self.runtime.remove_image(reference);
        self.operations.time("remove_image", doing).await
    }

    async fn image_filesystem(&self) -> Result<FilesystemUsage, Error> {
        let doing = self.runtime.image_filesystem();
        self.operations.time("image_fs_info", doing).await
    }

    async fn image_filesystems(&self) -> Result<Vec<Filesystem>, Error> {
        let doing = self.runtime.image_filesystems();
        self.operations.time("image_fs_info", doing).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn operations_are_counted_timed_and_their_errors_told() {
        let operations = Operations::new();
        let slow = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(())
        };
        operations.time("run_podsandbox", slow).await.expect("it works");
        let fails = async { Err::<(), _>(Error::failed("making a pod", "no room")) };
        operations.time("run_podsandbox", fails).await.expect_err("it does not");
        let text = operations.text().await;
        for line in [
            "# TYPE kubelet_runtime_operations_total counter",
            "kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"} 2",
            "kubelet_runtime_operations_errors_total{operation_type=\"run_podsandbox\"} 1",
            "kubelet_runtime_operations_duration_seconds_sum{operation_type=\"run_podsandbox\"} 2.0",
            "kubelet_runtime_operations_duration_seconds_bucket{le=\"0.005\",operation_type=\"run_podsandbox\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("EOF"), "{text}");
    }
}
