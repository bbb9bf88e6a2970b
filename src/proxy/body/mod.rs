//! Bodies of requests and responses on their way through the plugins, and the limits on them.

pub(super) mod buffered_body;
pub(super) mod early_response;
pub(super) mod expect_continue;
pub(super) mod request_body;
pub(super) mod response_body;
