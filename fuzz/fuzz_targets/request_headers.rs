#![no_main]
zapbus_fuzz::fuzz!("request_headers");
