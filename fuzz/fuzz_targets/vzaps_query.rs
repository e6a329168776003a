#![no_main]
zapbus_fuzz::fuzz!("vzaps_query");
