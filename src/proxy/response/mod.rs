//! Responses: the gateway's own, the upstream's, and the log of an ended request.

pub(super) mod acme_http01;
pub(super) mod local_response;
pub(super) mod request_end;
pub(super) mod response_head;
pub(super) mod upstream_response;
