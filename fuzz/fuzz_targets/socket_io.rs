#![no_main]
zapbus_fuzz::fuzz!("socket_io");
