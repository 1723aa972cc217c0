# The addresses of envoy.yaml, as they are between the containers of docker-compose.yaml.
s/address: 127.0.0.1, port_value: 10000/address: 0.0.0.0, port_value: 10000/
s/address: 127.0.0.1, port_value: 8070/address: tenancyd, port_value: 8070/
s/address: 127.0.0.1, port_value: 8071/address: tenancyd, port_value: 8071/
s/address: 127.0.0.1, port_value: 8081/address: blue, port_value: 8080/
s/address: 127.0.0.1, port_value: 8082/address: green, port_value: 8080/
