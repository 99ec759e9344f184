"""The gRPC endpoint of the edge: Envoy's external authorization. Needs the extra `keywright[grpc]`."""
