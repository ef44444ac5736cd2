"""What the online stores share: how rows, manifests and offsets are written, and which count.

Nothing here touches a store; an adapter of ``stores`` brings the bytes.
"""
