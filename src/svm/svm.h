/*
 * svm.h - AMD SVM for a guest that is a hypervisor: VMRUN to #VMEXIT. Asked by the executor through struct svm_ops (cpu/svm_ops.h).
 *
 * Words: L1 is the guest hypervisor, L2 its guest. L2 runs in the same struct vcpu; L1's state waits in struct svm_vcpu, not in the guest memory that
 * VM_HSAVE_PA names.
 */
#ifndef SVM_SVM_H
#define SVM_SVM_H

struct vcpu;

/* Gives a vcpu what it needs if its CPUID offers SVM (vcpu_offer). Before it runs; 0 or -ENOMEM. */
int svm_attach(struct vcpu *v);
/* Nothing if svm_attach was not called. */
void svm_detach(struct vcpu *v);

#endif
