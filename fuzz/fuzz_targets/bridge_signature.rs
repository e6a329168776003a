#![no_main]
zapbus_fuzz::fuzz!("bridge_signature");
