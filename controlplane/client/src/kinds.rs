//! The built-in kinds that components name.

use crate::kind::Kind;

pub static NAMESPACE: Kind = Kind::cluster("", "v1", "Namespace", "namespaces");
pub static NODE: Kind = Kind::cluster("", "v1", "Node", "nodes");
pub static POD: Kind = Kind::namespaced("", "v1", "Pod", "pods");
pub static SERVICE: Kind = Kind::namespaced("", "v1", "Service", "services");
pub static ENDPOINTS: Kind = Kind::namespaced("", "v1", "Endpoints", "endpoints");
pub static CONFIG_MAP: Kind = Kind::namespaced("", "v1", "ConfigMap", "configmaps");
pub static SECRET: Kind = Kind::namespaced("", "v1", "Secret", "secrets");
pub static SERVICE_ACCOUNT: Kind = Kind::namespaced("", "v1", "ServiceAccount", "serviceaccounts");
pub static EVENT: Kind = Kind::namespaced("", "v1", "Event", "events");
pub static ENDPOINT_SLICE: Kind = Kind::namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
pub static LEASE: Kind = Kind::namespaced("coordination.k8s.io", "v1", "Lease", "leases");
pub static CERTIFICATE_SIGNING_REQUEST: Kind = Kind::cluster(
    "certificates.k8s.io",
    "v1",
    "CertificateSigningRequest",
    "certificatesigningrequests",
);
pub static SUBJECT_ACCESS_REVIEW: Kind = Kind::cluster(
    "authorization.k8s.io",
    "v1",
    "SubjectAccessReview",
    "subjectaccessreviews",
);
pub static PERSISTENT_VOLUME: Kind = Kind::cluster("", "v1", "PersistentVolume", "persistentvolumes");
pub static PERSISTENT_VOLUME_CLAIM: Kind =
    Kind::namespaced("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims");
pub static STORAGE_CLASS: Kind = Kind::cluster("storage.k8s.io", "v1", "StorageClass", "storageclasses");
pub static CSI_DRIVER: Kind = Kind::cluster("storage.k8s.io", "v1", "CSIDriver", "csidrivers");
pub static CSI_NODE: Kind = Kind::cluster("storage.k8s.io", "v1", "CSINode", "csinodes");
pub static VOLUME_ATTACHMENT: Kind = Kind::cluster("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments");
pub static VOLUME_ATTRIBUTES_CLASS: Kind = Kind::cluster(
    "storage.k8s.io",
    "v1",
    "VolumeAttributesClass",
    "volumeattributesclasses",
);
pub static REPLICA_SET: Kind = Kind::namespaced("apps", "v1", "ReplicaSet", "replicasets");
pub static DEPLOYMENT: Kind = Kind::namespaced("apps", "v1", "Deployment", "deployments");
pub static POD_DISRUPTION_BUDGET: Kind =
    Kind::namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets");
pub static RUNTIME_CLASS: Kind = Kind::cluster("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses");
pub static IP_ADDRESS: Kind = Kind::cluster("networking.k8s.io", "v1", "IPAddress", "ipaddresses");
pub static SERVICE_CIDR: Kind = Kind::cluster("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs");
pub static ROLE: Kind = Kind::namespaced("rbac.authorization.k8s.io", "v1", "Role", "roles");
pub static ROLE_BINDING: Kind = Kind::namespaced("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings");
pub static CLUSTER_ROLE: Kind = Kind::cluster("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles");
pub static CLUSTER_ROLE_BINDING: Kind = Kind::cluster(
    "rbac.authorization.k8s.io",
    "v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
);
