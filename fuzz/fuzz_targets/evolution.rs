#![no_main]
zapbus_fuzz::fuzz!("evolution");
