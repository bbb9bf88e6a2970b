//! Request header: parsing, validation, facts, and the fields that the gateway removes and adds.

pub(super) mod explain_request;
pub(super) mod extended_connect;
pub(super) mod field_cleaning;
pub(super) mod forwarded;
pub(super) mod grpc;
pub(super) mod h2_to_h1;
pub(super) mod head_parser;
pub(super) mod hop_by_hop;
pub(super) mod received_parts;
pub(super) mod received_state;
pub(super) mod request_facts;
pub(super) mod request_validation;
pub(super) mod untrusted_headers;
pub(super) mod x_forwarded;
pub(super) mod x_forwarded_policy;
