//! Network I/O below the protocols: the reader of HTTP/1 response heads.

pub mod response_head;
