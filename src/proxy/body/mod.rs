//! Request and response bodies: plugins and limits.

pub(super) mod buffered_body;
pub(super) mod early_response;
pub(super) mod expect_continue;
pub(super) mod request_body;
pub(super) mod response_body;
