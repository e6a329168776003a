#![no_main]
zapbus_fuzz::fuzz!("trace_headers");
