from twisted.application.service import ServiceMaker

pylb = ServiceMaker("pylb", "pylb.tap", "A load balancer for TCP, UDP and HTTP", "pylb")
