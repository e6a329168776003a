#![no_main]
zapbus_fuzz::fuzz!("waha");
