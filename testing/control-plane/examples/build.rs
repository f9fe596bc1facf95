fn main() { infmon_control_plane::Tools::pause().unwrap(); infmon_control_plane::Tools::coredns().unwrap(); infmon_control_plane::Tools::node_programs().unwrap(); }
