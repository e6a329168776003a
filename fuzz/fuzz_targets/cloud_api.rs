#![no_main]
zapbus_fuzz::fuzz!("cloud_api");
