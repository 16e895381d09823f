"""Intel DCAP: what SGX and TDX quotes share: quoting enclave, PCK chain, collateral, TCB levels.

`attestation.tdx` and `attestation.sgx` add what a TD or an enclave must be.
"""
