#![no_main]
zapbus_fuzz::fuzz!("configuration");
