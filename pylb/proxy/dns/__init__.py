"""Names and services, followed in DNS: message, query, answers, follow, nameservers, from the wire up."""
