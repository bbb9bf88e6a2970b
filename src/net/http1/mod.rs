//! HTTP/1 on the wire, sans-io: ends of request headers, response headers, spelling of field names, and bodies and
//! trailers of both directions.

pub mod body_decoder;
pub mod body_encoder;
pub mod chunked_body;
pub mod field_lines;
pub mod field_names;
pub mod head_end;
pub mod response_head;
pub mod trailers;
